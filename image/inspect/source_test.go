package inspect

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/image/archive"
	"hapax/image/vmlinuz"
)

// A part is a section of a PE file. Size is how long the table says that it is, if not its length.
type part struct {
	name, content string
	size          uint32
}

// peFile returns a PE file with the sections, each padded to 512 bytes.
func peFile(parts ...part) string {
	var b, body bytes.Buffer
	const headers = 0x400
	b.WriteString("MZ" + strings.Repeat("\x00", 0x3a) + "\x40\x00\x00\x00PE\x00\x00")
	binary.Write(&b, binary.LittleEndian, pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: uint16(len(parts))})
	for _, p := range parts {
		h := pe.SectionHeader32{VirtualSize: uint32(len(p.content)), PointerToRawData: uint32(headers + body.Len())}
		copy(h.Name[:], p.name)
		body.WriteString(p.content + strings.Repeat("\x00", -len(p.content)&511))
		h.SizeOfRawData = uint32(len(p.content) + -len(p.content)&511)
		if p.size != 0 {
			h.VirtualSize, h.SizeOfRawData = p.size, p.size
		}
		binary.Write(&b, binary.LittleEndian, h)
	}
	b.Write(make([]byte, headers-b.Len()))
	return b.String() + body.String()
}

// bzImage returns the start of a kernel that says which it is.
func bzImage(release string) string {
	b := make([]byte, 0x400)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], 0x300-0x200)
	copy(b[0x300:], release+" (builder@host) #1 SMP\x00")
	return string(b)
}

func TestUKI(t *testing.T) {
	t.Parallel()
	early := newc(rec{name: "early", mode: regular, content: "1"})
	main := squeeze(t, archive.Zstd, newc(rec{name: "main", mode: regular, content: "2"}))
	image := peFile(
		part{name: ".text", content: "stub"}, part{name: ".uname", content: "6.1.0\n\x00\x00"}, part{name: ".cmdline", content: "root=/dev/vda quiet\x00"},
		part{name: ".initrd", content: main}, part{name: ".ucode", content: early}, part{name: ".linux", content: bzImage("6.1.0")},
		part{name: ".profile", content: "ID=other"}, part{name: ".cmdline", content: "of another choice"}, part{name: ".initrd", content: "not this one"},
	)
	s := open(t, image)
	if s.Kind != UKI || s.Release != "6.1.0" || s.Cmdline != "root=/dev/vda quiet" || vmlinuz.Release(s.Kernel) != "6.1.0" {
		t.Errorf("%s, %q, %q, kernel %q", s.Kind, s.Release, s.Cmdline, vmlinuz.Release(s.Kernel))
	}
	if want := int64(len(early) + len(main)); s.InitramfsSize() != want {
		t.Errorf("InitramfsSize = %d, want %d", s.InitramfsSize(), want)
	}
	tree := read(t, image, Options{Spare: 100})
	if diff := cmp.Diff([]string{"early = 1 (1)", "main = 2 (1)"}, describe(t, tree)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, tt := range map[string]struct{ content, want string }{
		"a kernel":   {peFile(part{name: ".text"}), "without a section .initrd"},
		"cut":        {peFile(part{name: ".initrd", content: "x", size: 1 << 31}), "ends behind the file"},
		"not PE":     {"MZ and no more", "begins like a PE file, but is none"},
		"disk":       {strings.Repeat("\x00", 512) + "EFI PART" + strings.Repeat("\x00", 1024), "a disk: its partition table is damaged"},
		"ISO":        {strings.Repeat("\x00", 0x8001) + "CD001" + strings.Repeat("\x00", 4096), "a CD: without an El Torito catalog"},
		"qcow2":      {"QFI\xfb", "a disk in qcow2: its header is cut short"},
		"MZ":         {"MZ", "begins like a PE file, but is none"},
		"many parts": {strings.Replace(peFile(part{name: ".initrd"}), "\x64\x86\x01\x00", "\x64\x86\xff\xff", 1), "begins like a PE file, but is none"},
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), file); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want an error with %q and the file", name, err, tt.want)
		}
	}
	for name, want := range map[string]string{dir: "not a regular file", filepath.Join(dir, "absent"): "no such file"} {
		if _, err := Open(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%s) = %v, want an error with %q", name, err, want)
		}
	}
}

func TestKernelRelease(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		bzImage("6.12.1-amd64"):        "6.12.1-amd64",
		bzImage("6.1")[:0x310]:         "6.1",
		bzImage("6.1")[:0x300]:         "",
		bzImage("6.1")[:0x200]:         "",
		strings.Repeat("\x00", 0x1000): "",
	} {
		if got := vmlinuz.Release(strings.NewReader(content)); got != want {
			t.Errorf("release of %d bytes = %q, want %q", len(content), got, want)
		}
	}
}

func FuzzSource(f *testing.F) {
	f.Add([]byte(peFile(part{name: ".uname", content: "6.1"}, part{name: ".initrd", content: newc()}, part{name: ".linux", content: bzImage("6.1")})))
	f.Fuzz(func(t *testing.T, image []byte) {
		if !bytes.HasPrefix(image, []byte("MZ")) {
			image = append([]byte("MZ"), image...)
		}
		s, err := newSource(t.Context(), "image", section(string(image)), "")
		if err != nil {
			return
		}
		if s.Kernel != nil {
			vmlinuz.Release(s.Kernel)
		}
		if s.InitramfsSize() > int64(len(image))*int64(len(s.parts)) {
			t.Errorf("an initramfs of %d bytes in a file of %d", s.InitramfsSize(), len(image))
		}
		_, _ = Read(s, Options{Limits: archive.Limits{Content: 1 << 16, Entries: 100}})
	})
}
