package modload

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// object compiles something with a .modinfo section.
func object(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	source, out := filepath.Join(dir, "m.c"), filepath.Join(dir, "m.ko")
	const text = `static const char a[] __attribute__((section(".modinfo"), used)) = "license=GPL\0parm=x:what"; int f(void) { return 1; }`
	if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command("gcc", "-c", "-o", out, source).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestModuleSection(t *testing.T) {
	file := object(t)
	got, err := ModuleSection(bytes.NewReader(file), ".modinfo")
	if err != nil || string(got) != "license=GPL\x00parm=x:what\x00" {
		t.Errorf("ModuleSection = %q, %v", got, err)
	}
	if _, err := ModuleSection(bytes.NewReader(file), ".modinf"); !errors.Is(err, unix.ENODATA) {
		t.Errorf("a section that is not there: %v, want ENODATA", err)
	}
	for size, want := range map[int]error{0: unix.ENOEXEC, 15: unix.ENOEXEC, 16: unix.EINVAL, 63: unix.EINVAL, 64: unix.EINVAL, len(file) - 1: unix.EINVAL} {
		if got, err := ModuleSection(bytes.NewReader(file[:size]), ".modinfo"); !errors.Is(err, want) {
			t.Errorf("the first %d bytes: %q, %v, want %v", size, got, err, want)
		}
	}
	if _, err := ModuleSection(bytes.NewReader(bytes.Repeat([]byte("x"), 100)), ".modinfo"); !errors.Is(err, unix.ENOEXEC) {
		t.Errorf("text: %v, want ENOEXEC", err)
	}
}

// FuzzModuleSection compares with debug/elf where both find something.
func FuzzModuleSection(f *testing.F) {
	file := object(f)
	f.Add(file)
	f.Add(file[:100])
	f.Add(append(bytes.Clone(file[:40]), bytes.Repeat([]byte{0xff}, 24)...))
	f.Fuzz(func(t *testing.T, file []byte) {
		got, err := ModuleSection(bytes.NewReader(file), ".modinfo")
		if err != nil {
			return
		}
		x, err := elf.NewFile(bytes.NewReader(file))
		if err != nil {
			return
		}
		s := x.Section(".modinfo")
		if s == nil || s.Type == elf.SHT_NOBITS || s.Flags&elf.SHF_COMPRESSED != 0 {
			return
		}
		if want, err := s.Data(); err == nil && !bytes.Equal(got, want) {
			t.Errorf("%q, debug/elf has %q", got, want)
		}
	})
}

func TestReadModuleFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := object(t)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(file); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// The name of a file is no evidence of what is in it.
	for name, content := range map[string][]byte{"plain.ko": file, "packed.ko.gz": packed.Bytes(), "packed.ko": packed.Bytes(), "plain.ko.gz": file} {
		if got, err := ReadModuleFile(write(name, content)); err != nil || !bytes.Equal(got, file) {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(file))
		}
	}
	fifo := filepath.Join(dir, "fifo.ko")
	if err := unix.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		fifo: unix.EINVAL, dir: unix.EINVAL, write("empty.ko", nil): unix.EINVAL, filepath.Join(dir, "none.ko"): os.ErrNotExist,
		write("cut.ko.gz", packed.Bytes()[:packed.Len()/2]): nil,
	} {
		if got, err := ReadModuleFile(path); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %d bytes, %v; want the error %v", path, len(got), err, want)
		}
	}
}
