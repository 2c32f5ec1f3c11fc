package image

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/image/archive"
	"hapax/image/profile"
	"hapax/image/resolve"
	"hapax/tests/need"
)

// info is the content of a module that names firmware.
func info(names ...string) string {
	text := "ELF\x00license=GPL\x00"
	for _, name := range names {
		text += "firmware=" + name + "\x00"
	}
	return text + "vermagic=6.1\x00\x00"
}

// names returns the names in an image with a prefix.
func names(t *testing.T, file, prefix string) []string {
	t.Helper()
	var found []string
	for line := range strings.Lines(listing(t, file)) {
		if i := strings.Index(line, " "+prefix); i >= 0 {
			found = append(found, strings.TrimSpace(line[i+1:]))
		}
	}
	return found
}

// Firmware comes as the kernel looks for it: the most important folder first, plain before packed, links as files, one of two
// equal ones as a link; what is missing is named once, with the modules, and with where it is.
func TestFirmware(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	dir := t.TempDir()
	for name, content := range map[string]string{
		"plain.bin": "plain", "plain.bin.xz": "hidden", "updates/new.bin": "new", "new.bin": "old", "6.1-test/rel.bin.zst": "rel",
		"packed.bin.xz": "packed", "glob/a-1.bin": "1", "glob/a-2.bin.zst": "2", "glob/b.bin": "b", "other/lost.bin": "lost",
		"target.bin": "target", "builtin.bin": "builtin", "extra/x.bin": "x",
	} {
		writeFile(t, filepath.Join(dir, name), content, 0o600)
	}
	if err := os.Symlink("target.bin", filepath.Join(dir, "link.bin")); err != nil {
		t.Fatal(err)
	}
	inner := filepath.Join(dir, "vendor") // a folder of firmware in another
	writeFile(t, filepath.Join(inner, "special.bin"), "special", 0o600)
	spec.FirmwareDirs, spec.Firmware = []string{dir, inner}, []string{"extra/*", "special.bin"}
	spec.Modules = []resolve.Rule{{Name: "null_blk"}}
	mod := filepath.Join(spec.ModulesDir, "kernel/drivers")
	writeFile(t, filepath.Join(spec.ModulesDir, "modules.dep"), "kernel/drivers/scsi/a.ko:\nkernel/drivers/scsi/null_blk.ko:\nkernel/fs/skipped.ko:\n", 0o644)
	writeFile(t, filepath.Join(mod, "scsi/a.ko"), info("plain.bin", "new.bin", "rel.bin", "glob/a-*.bin", "lost.bin", "absent.bin", "../up.bin"), 0o644)
	writeFile(t, filepath.Join(mod, "scsi/null_blk.ko"), info("packed.bin", "link.bin", "target.bin", "absent.bin"), 0o644)
	writeFile(t, filepath.Join(spec.ModulesDir, "modules.builtin.modinfo"), "x.license=GPL\x00x.firmware=builtin.bin\x00x.firmware=absent.bin\x00", 0o644)
	spec.Mode = All
	spec.Modules = append(spec.Modules, resolve.Rule{Folder: "kernel/fs/", Remove: true})
	result, err := Build(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"6.1-test", "6.1-test/rel.bin.zst", "builtin.bin", "extra", "extra/x.bin", "glob", "glob/a-1.bin", "glob/a-2.bin.zst", "link.bin",
		"packed.bin.xz", "plain.bin", "special.bin", "target.bin", "updates", "updates/new.bin",
	}
	if diff := cmp.Diff(want, trimmed(names(t, spec.Output, "lib/firmware/"), "lib/firmware/")); diff != "" {
		t.Errorf("firmware (-want +got):\n%s", diff)
	}
	missing := []MissingFirmware{
		{Name: "../up.bin", Modules: []string{"a"}},
		{Name: "absent.bin", Modules: []string{"a", "null_blk", "x (built in)"}},
		{Name: "lost.bin", Modules: []string{"a"}, Elsewhere: filepath.Join(dir, "other/lost.bin")},
	}
	if diff := cmp.Diff(missing, result.Missing); diff != "" || result.Firmware != 11 {
		t.Errorf("%d files, missing (-want +got):\n%s", result.Firmware, diff)
	}
	if got := missing[2].String(); !strings.Contains(got, "lost.bin, named by a, is missing; the host has "+dir) {
		t.Errorf("missing firmware reads %q", got)
	}
	if got := why(result, "plain.bin"); got != "firmware of a" {
		t.Errorf("plain.bin is there because %q", got)
	}
	spec.Firmware, spec.Force = []string{"absent/*.bin"}, true
	if _, err := Build(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "firmware absent/*.bin is not below "+dir) {
		t.Errorf("Build with firmware that is not there = %v", err)
	}
}

func trimmed(list []string, prefix string) []string {
	for i := range list {
		list[i] = strings.TrimPrefix(list[i], prefix)
	}
	return list
}

// A module whose packing is cut short goes into the image as it is, and is named.
func TestDamagedModule(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	const file = "kernel/drivers/scsi/cut.ko.gz"
	writeFile(t, filepath.Join(spec.ModulesDir, "modules.dep"), file+":\n", 0o644)
	writeFile(t, filepath.Join(spec.ModulesDir, file), "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b", 0o644)
	spec.Mode, spec.Modules = Custom, []resolve.Rule{{Name: "cut"}}
	r, err := Build(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], file) || !strings.Contains(r.Warnings[0], "damaged") {
		t.Errorf("warnings %q, want one that names %s", r.Warnings, file)
	}
	if list := listing(t, spec.Output); !strings.Contains(list, file) {
		t.Errorf("the image has no %s:\n%s", file, list)
	}
}

// The early archive is plain, comes first, ends at a multiple of 512, and has Intel's microcode at a multiple of 16; the image
// behind it is the one that a build without microcode gives.
func TestMicrocode(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	spec.Compression = archive.Zstd
	dir := t.TempDir()
	for name, content := range map[string]string{
		"intel-ucode/06-8e-0a": "intel one.", "intel-ucode/06-9e-0d": "intel two", "intel-ucode/.hidden": "never",
		"amd-ucode/microcode_amd.bin": "amd old", "amd-ucode/README": "never", "intel-ucode/README": "never", "intel-ucode/06-8e-0x": "never",
		"amd-ucode/microcode_amd.bin.asc": "never",
	} {
		writeFile(t, filepath.Join(dir, name), content, 0o644)
	}
	for name, content := range map[string]string{ // as some distributions have them
		"amd-ucode/microcode_amd_fam17h.bin.xz": "amd 17", "intel-ucode/06-8f-07.initramfs": "intel early", "intel-ucode/06-8e-0a.xz": "never, for there is a plain one",
	} {
		if strings.HasSuffix(name, ".xz") {
			content = packed(t, content)
		}
		writeFile(t, filepath.Join(dir, name), content, 0o644)
	}
	plain, err := Build(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	without, err := os.ReadFile(spec.Output)
	if err != nil {
		t.Fatal(err)
	}
	spec.Force, spec.FirmwareDirs = true, []string{dir}
	cpus := filepath.Join(dir, "machine.json")
	writeFile(t, cpus, `{"version":1,"modaliases":[],"needs":[],"cpus":[{"vendor":"GenuineIntel","family":6,"model":142,"stepping":10},`+
		`{"vendor":"AuthenticAMD","family":23,"model":1,"stepping":1},{"vendor":"AuthenticAMD","family":16,"model":1,"stepping":1}]}`, 0o644)
	for name, tt := range map[string]struct {
		microcode  string
		profiles   []string
		amd, intel string
	}{
		"universal": {"", nil, "", ""},
		"none":      {"none", []string{cpus}, "", ""},
		"all":       {"all", nil, "amd oldamd 17", "intel one.intel earlyintel two"},
		"machine":   {"auto", []string{cpus}, "amd oldamd 17", "intel one."},
		"a folder":  {dir, nil, "amd oldamd 17", "intel one.intel earlyintel two"},
	} {
		spec.Microcode, spec.Profiles, spec.Mode = tt.microcode, tt.profiles, Universal
		if tt.profiles != nil {
			spec.Mode = FromProfile
		}
		if _, err := Build(t.Context(), spec); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		image, err := os.ReadFile(spec.Output)
		if err != nil {
			t.Fatal(err)
		}
		amd, intel := early(image, "AuthenticAMD.bin"), early(image, "GenuineIntel.bin")
		if content(image, amd) != tt.amd || content(image, intel) != tt.intel {
			t.Errorf("%s: AMD %q, Intel %q", name, content(image, amd), content(image, intel))
		}
		if intel >= 0 && (dataAt(image, intel)%16 != 0 || amd > intel) {
			t.Errorf("%s: Intel's microcode at byte %d", name, dataAt(image, intel))
		}
		if at := bytes.Index(image, without[:64]); tt.profiles == nil && (!bytes.HasSuffix(image, without) || at%512 != 0) {
			t.Errorf("%s: the image without microcode is not the end of it, or begins at byte %d", name, at)
		}
	}
	if plain.Size != int64(len(without)) {
		t.Errorf("size %d, file %d", plain.Size, len(without))
	}
	spec.Profiles, spec.Mode = nil, Universal
	for microcode, want := range map[string]string{"all": "no files in", "/nonexistent": "is no folder"} {
		spec.Microcode, spec.FirmwareDirs = microcode, []string{t.TempDir()}
		if _, err := Build(t.Context(), spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Build with microcode %q = %v, want an error with %q", microcode, err, want)
		}
	}
}

// packed returns a file as xz packs it.
func packed(t *testing.T, content string) string {
	t.Helper()
	var b bytes.Buffer
	z, err := archive.NewCompressor(&b, archive.XZ)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(z, content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// early returns where the record of a microcode file begins, -1 if there is none.
func early(image []byte, name string) int {
	i := bytes.Index(image, []byte("kernel/x86/microcode/"+name+"\x00"))
	return max(i-110, -1)
}

// dataAt returns where the content of a record begins.
func dataAt(image []byte, record int) int {
	size := bytes.IndexByte(image[record+110:], 0) + 1
	return (record + 110 + size + 3) &^ 3
}

func content(image []byte, record int) string {
	if record < 0 {
		return ""
	}
	size := make([]byte, 4)
	if _, err := hex.Decode(size, image[record+54:record+62]); err != nil {
		return err.Error()
	}
	at := dataAt(image, record)
	return string(image[at : at+int(binary.BigEndian.Uint32(size))])
}

// A dynamic program runs in the image with the libraries that came along. The archive is unpacked and entered with chroot.
func TestProgram(t *testing.T) {
	t.Parallel()
	need.Tools(t, "cpio", "chroot")
	need.Root(t)
	spec := testSpec(t)
	spec.Shell = "/bin/sh"
	for _, program := range []string{"/bin/ls", "/bin/bash:/usr/local/bin/shell"} {
		in, err := ParseInclude(program)
		if err != nil {
			t.Fatal(err)
		}
		spec.Programs = append(spec.Programs, in)
	}
	result, err := Build(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if got := why(result, "libselinux.so.1"); got != "library of /bin/ls" {
		t.Errorf("libselinux.so.1 is there because %q", got)
	}
	image, err := os.Open(spec.Output)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	root := t.TempDir()
	unpack := exec.CommandContext(t.Context(), "cpio", "-idm", "--quiet")
	unpack.Dir, unpack.Stdin = root, image
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), "chroot", root, "/usr/local/bin/shell", "-c", "/bin/ls /init && /bin/sh -c 'echo sh'").CombinedOutput()
	if err != nil || string(out) != "/init\nsh\n" {
		t.Errorf("the programs in the image say %q, %v", out, err)
	}
}

func TestProgramFails(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{"/absent": "no such file", "/script": "copy a script with --include"} {
		spec := testSpec(t)
		spec.Root = t.TempDir()
		writeFile(t, filepath.Join(spec.Root, "script"), "#!/bin/sh\n", 0o755)
		spec.Programs = []Include{{Source: source, Target: source}}
		if _, err := Build(t.Context(), spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Build with program %s = %v, want an error with %q", source, err, want)
		}
	}
}

func TestFitsProcessor(t *testing.T) {
	t.Parallel()
	b := newBuilder(Spec{}, nil)
	b.machines = []profile.Profile{{CPUs: []profile.CPU{{Vendor: "AuthenticAMD", Family: 25}, {Vendor: "GenuineIntel", Family: 6, Model: 0xf, Stepping: 11}}}}
	for file, want := range map[string]bool{"microcode_amd_fam19h.bin": true, "microcode_amd.bin": false, "06-0f-0b": false} {
		if got := b.fitsProcessor(amdVendor, file); got != want {
			t.Errorf("AMD %s fits: %v", file, got)
		}
	}
	if !b.fitsProcessor(intelVendor, "06-0f-0b") || b.fitsProcessor(intelVendor, "06-0f-0a") {
		t.Error("Intel's file names are not understood")
	}
}
