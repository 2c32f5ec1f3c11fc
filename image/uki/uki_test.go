package uki

import (
	"bytes"
	"debug/pe"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/tests/need"
)

// debianStub is the stub of Debian's package systemd-boot-efi.
const debianStub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// build assembles an image and returns its bytes.
func build(t testing.TB, spec Spec) []byte {
	t.Helper()
	m, err := New(spec)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(m.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// table returns the sections of an image, each as its name and content.
func table(t *testing.T, image []byte) []string {
	t.Helper()
	f, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	end := f.OptionalHeader.(*pe.OptionalHeader64).SizeOfHeaders
	offset := end
	for _, s := range f.Sections {
		content, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		if s.VirtualAddress < end || s.Offset != offset || s.Size%512 != 0 {
			t.Errorf("%s at %#x, in the file at %#x: before it ends %#x, in the file %#x", s.Name, s.VirtualAddress, s.Offset, end, offset)
		}
		end, offset = s.VirtualAddress+s.VirtualSize, s.Offset+s.Size
		list = append(list, fmt.Sprintf("%s %q", s.Name, content[:min(len(content), int(s.VirtualSize))]))
	}
	if size := f.OptionalHeader.(*pe.OptionalHeader64).SizeOfImage; size < end {
		t.Errorf("%#x bytes in memory, the sections end at %#x", size, end)
	}
	return list
}

// ownStub are the sections that come from fakeStub.
func ownStub(version string) []string {
	return []string{
		`.text "code of the stub"`,
		`.sbat "sbat,1,SBAT Version,sbat,1,url\nsystemd,1,x,systemd,1,url\n\x00"`,
		`.sdmagic "#### LoaderInfo: systemd-stub ` + version + ` ####\x00"`,
		`.data "data of the stub"`,
	}
}

func TestSections(t *testing.T) {
	t.Parallel()
	kernel := fmt.Sprintf(".linux %q", fakeKernel().bytes(t))
	base := []string{`.osrel "ID=hapax\n"`, `.uname "6.1.0"`, `.cmdline "quiet"`}
	for _, tt := range []struct {
		name    string
		version string
		change  func(*Spec)
		want    []string // behind those of the stub
	}{
		{"plain", "252.39-1", func(*Spec) {}, slices.Concat(base, []string{`.initrd "initramfs"`, kernel})},
		{"empty texts", "252", func(s *Spec) { s.Cmdline, s.OSRelease, s.Uname = "", "", "" }, []string{`.initrd "initramfs"`, kernel}},
		{"splash", "252", func(s *Spec) { s.Splash = stringReader("BMpicture") },
			slices.Concat(base, []string{`.splash "BMpicture"`, `.initrd "initramfs"`, kernel})},
		{"microcode", "256.1", func(s *Spec) { s.Microcode = stringReader("early") },
			slices.Concat(base, []string{`.ucode "early"`, `.initrd "initramfs"`, kernel})},
		{"microcode, old stub", "252", func(s *Spec) { s.Microcode = stringReader("early") },
			slices.Concat(base, []string{`.initrd "early\x00\x00\x00initramfs"`, kernel})},
		{"profiles", "257", func(s *Spec) {
			s.Profiles = []Profile{{ID: "main"}, {ID: "rescue", Title: `Rescue "now"`, Cmdline: "rd.break"}}
		}, slices.Concat(base, []string{`.initrd "initramfs"`, kernel, `.profile "ID=main\n"`,
			`.profile "ID=rescue\nTITLE=\"Rescue \\\"now\\\"\"\n"`, `.cmdline "rd.break"`})},
	} {
		spec := fakeSpec(t, tt.version)
		tt.change(&spec)
		got := table(t, build(t, spec))
		if diff := cmp.Diff(append(ownStub(tt.version), tt.want...), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestSBAT(t *testing.T) {
	t.Parallel()
	spec := fakeSpec(t, "252")
	spec.SBAT = "sbat,1,SBAT Version,sbat,1,url\n\nhapax,1,Hapax,hapax,1,url\n"
	got := table(t, build(t, spec))
	want := `.sbat "sbat,1,SBAT Version,sbat,1,url\nsystemd,1,x,systemd,1,url\nhapax,1,Hapax,hapax,1,url\n"`
	if !slices.Contains(got, want) || slices.Contains(got, ownStub("252")[1]) {
		t.Errorf("sections: %q", got)
	}
	for _, lines := range []string{"hapax", "hapax,1"} {
		spec.SBAT = lines
		if _, err := New(spec); err == nil {
			t.Errorf("SBAT %q: no error", lines)
		}
	}
}

// What the head of a stub may say grows to what the table of sections needs.
func TestManyProfiles(t *testing.T) {
	t.Parallel()
	spec := fakeSpec(t, "257")
	for i := range 40 {
		spec.Profiles = append(spec.Profiles, Profile{ID: fmt.Sprint("p", i), Cmdline: "x"})
	}
	if got := table(t, build(t, spec)); len(got) != 4+5+80 {
		t.Errorf("%d sections", len(got))
	}
	for range 60 {
		spec.Profiles = append(spec.Profiles, Profile{ID: "more", Cmdline: "x"})
	}
	if _, err := New(spec); err == nil || !strings.Contains(err.Error(), "sections") {
		t.Errorf("with 100 profiles: %v", err)
	}
}

func TestReproducible(t *testing.T) {
	t.Parallel()
	if !bytes.Equal(build(t, fakeSpec(t, "257")), build(t, fakeSpec(t, "257"))) {
		t.Error("two images of the same parts differ")
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	other := fakeKernel()
	other.machine = pe.IMAGE_FILE_MACHINE_ARM64
	for want, change := range map[string]func(*Spec){
		"CONFIG_EFI_STUB":   func(s *Spec) { s.Kernel = stringReader("no kernel") },
		"the stub for":      func(s *Spec) { s.Kernel = reader(other.bytes(t)) },
		"no initramfs":      func(s *Spec) { s.Initrd = stringReader("") },
		"profiles need":     func(s *Spec) { s.Profiles = []Profile{{ID: "a"}} },
		"line end or a NUL": func(s *Spec) { s.Cmdline = "quiet\n" },
		"no BMP":            func(s *Spec) { s.Splash = stringReader("PNG") },
	} {
		spec := fakeSpec(t, "252")
		change(&spec)
		if _, err := New(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, want %q", err, want)
		}
	}
	spec := fakeSpec(t, "257")
	spec.Profiles = []Profile{{ID: "a b"}}
	if _, err := New(spec); err == nil || !strings.Contains(err.Error(), `"a b"`) {
		t.Errorf("a profile with a blank: %v", err)
	}
	finished := build(t, fakeSpec(t, "252"))
	spec.Stub = reader(finished)
	if _, err := New(spec); err == nil || !strings.Contains(err.Error(), "finished image") {
		t.Errorf("an image in the place of the stub: %v", err)
	}
}

// objdump reads the image that Debian's stub becomes, as others see it.
func TestObjdump(t *testing.T) {
	t.Parallel()
	need.Files(t, debianStub)
	need.Tools(t, "objdump")
	stub, err := os.ReadFile(debianStub)
	if err != nil {
		t.Fatal(err)
	}
	spec := fakeSpec(t, "")
	spec.Stub = reader(stub)
	file := filepath.Join(t.TempDir(), "uki.efi")
	if err := os.WriteFile(file, build(t, spec), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "objdump", "-h", file).CombinedOutput()
	if err != nil {
		t.Fatalf("objdump: %v\n%s", err, out)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 7 && strings.HasPrefix(f[1], ".") {
			names = append(names, f[1])
		}
	}
	want := []string{".text", ".reloc", ".data", ".dynamic", ".rela", ".dynsym", ".sbat", ".sdmagic",
		".osrel", ".uname", ".cmdline", ".initrd", ".linux"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("sections (-want +got):\n%s", diff)
	}
}
