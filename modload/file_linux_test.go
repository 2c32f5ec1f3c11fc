package modload

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hapax/modload/modindex"
)

func TestCompressionOf(t *testing.T) {
	t.Parallel()
	for head, want := range map[string]string{
		"\x7fELF\x02\x01":      "",
		"\x1f\x8b\x08\x00..":   "gzip",
		"\xfd7zXZ\x00":         "xz",
		"\x28\xb5\x2f\xfd\x04": "zstd",
		"":                     "",
		"\xfd7zXZ":             "",
	} {
		if got := compressionOf([]byte(head)); got != want {
			t.Errorf("compressionOf(%q) = %q, want %q", head, got, want)
		}
	}
}

// What finit_module would refuse as a failed read is refused before it.
func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("plain.ko", "\x7fELF and more")
	write("packed.ko", "\xfd7zXZ\x00 and more") // the name hides it
	write("odd.ko.xz", "\x28\xb5\x2f\xfd and more")
	write("empty.ko", "")
	if err := os.Mkdir(filepath.Join(dir, "folder.ko"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo.ko"), 0o644); err != nil {
		t.Fatal(err)
	}
	k := openKernel(t, dir)
	k.compression = "xz"
	tests := []struct {
		path  string
		flags int
		err   string // part of it; "" for success
	}{
		{"plain.ko", 0, ""},
		{"packed.ko", unix.MODULE_INIT_COMPRESSED_FILE, ""},
		{"odd.ko.xz", 0, "unpack zstd: "},
		{"empty.ko", 0, "not a regular file"},
		{"folder.ko", 0, "not a regular file"},
		{"fifo.ko", 0, "not a regular file"},
		{"missing.ko", 0, "no such file"},
	}
	for _, tt := range tests {
		f, err := k.open(Job{Module: modindex.Module{Name: "m", Path: tt.path}})
		switch {
		case tt.err == "" && (err != nil || f.flags != tt.flags):
			t.Errorf("%s: %+v, %v; want flags %d", tt.path, f, err, tt.flags)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), tt.path)):
			t.Errorf("%s: error %v, want %q and the path in it", tt.path, err, tt.err)
		}
		if err == nil {
			f.close()
		} else if outcome(err) != Failed {
			t.Errorf("%s: %v is not a failure", tt.path, err)
		}
	}
	if _, err := OpenKernel(filepath.Join(dir, "plain.ko")); err == nil {
		t.Error("OpenKernel of a file gave no error")
	}
}

// A file that the kernel does not unpack arrives as one that it takes: the same
// bytes to the last one of the signature, in a file that nobody can write to.
func TestOpenUnpacks(t *testing.T) {
	t.Parallel()
	plain := append(moduleLike(300_000), signature...)
	dir := t.TempDir()
	k := openKernel(t, dir)
	for _, compression := range []string{"gzip", "xz", "zstd"} {
		packed := pack(t, compression, plain)
		if err := os.WriteFile(filepath.Join(dir, compression), packed, 0o644); err != nil {
			t.Fatal(err)
		}
		// Both kinds of kernel: one that unpacks nothing, one that unpacks something else.
		k.compression = map[string]string{"gzip": "", "xz": "zstd", "zstd": "xz"}[compression]
		k.policy.Store(&policy{signed: "module.sig_enforce"})
		f, err := k.open(Job{Module: modindex.Module{Name: "m", Path: compression}})
		if err != nil {
			t.Errorf("%s: %v", compression, err)
			continue
		}
		defer f.close()
		got, err := io.ReadAll(io.NewSectionReader(preader(f.fd), 0, f.size))
		if err != nil || !bytes.Equal(got, plain) || f.flags != 0 {
			t.Errorf("%s: %d bytes, flags %d, %v; want the %d bytes packed, no flags", compression, len(got), f.flags, err, len(plain))
		}
		if beingWritten(f.fd) {
			t.Errorf("%s: the file is open for writing", compression)
		}
		w, err := os.OpenFile(procFd(f.fd), os.O_WRONLY, 0)
		if err == nil {
			defer w.Close()
			if _, err := w.Write([]byte("x")); err == nil {
				t.Errorf("%s: the content can be changed", compression)
			}
		}
	}
}

// What a signature is demanded of is looked at unpacked.
func TestOpenUnsigned(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := openKernel(t, dir)
	k.compression = "zstd"
	k.policy.Store(&policy{signed: "kernel lockdown"})
	plain := moduleLike(10_000)
	for name, content := range map[string][]byte{
		"plain": plain, "xz": pack(t, "xz", plain), "inside.zstd": pack(t, "zstd", plain),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := k.open(Job{Module: modindex.Module{Name: "m", Path: name}})
		if err == nil {
			f.close()
		}
		// The kernel unpacks zstd itself and judges what is inside.
		if kept := err != nil && strings.Contains(err.Error(), "no signature"); kept != (name != "inside.zstd") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBeingWritten(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "m.ko")
	w, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if !beingWritten(int(r.Fd())) {
		t.Error("a writer is not noticed")
	}
	w.Close()
	if beingWritten(int(r.Fd())) {
		t.Error("a writer is noticed after it is gone")
	}
	// No lease is left behind that would hold up the next one.
	w, err = os.OpenFile(file, os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Errorf("open for writing afterwards: %v", err)
	}
	w.Close()
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[1])
	defer unix.Close(pipe[0])
	if beingWritten(pipe[0]) {
		t.Error("where there are no leases, a writer is claimed")
	}
}
