package coldplug

import (
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// entries returns the names in what getdents64 has filled in.
func entries(b []byte) []string {
	var names []string
	for d, rest, ok := nextDirent(b); ok; d, rest, ok = nextDirent(rest) {
		names = append(names, string(d.name))
	}
	return names
}

func TestNextDirent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := []string{".\x00", "..\x00", strings.Repeat("n", 255) + "\x00", "b\x00"}
	for _, name := range want[2:] {
		if err := os.WriteFile(dir+"/"+strings.TrimSuffix(name, "\x00"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(dir, openDir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 4096)
	n, err := unix.Getdents(fd, buf)
	if err != nil {
		t.Fatal(err)
	}
	got := entries(buf[:n])
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("entries of the directory = %q, want %q", got, want)
	}
	for cut := range n {
		if got := entries(buf[:cut]); len(got) >= len(want) {
			t.Errorf("%d of %d bytes give %d entries", cut, n, len(got))
		}
	}
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "short", "A=1\nB=2")
	write(t, dir, "long", "A=1\nB=2345678\n")
	if err := os.Symlink("short", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(dir+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir, openDir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	tests := []struct {
		name, want string
		err        error
	}{
		{"short", "A=1\nB=2", nil},
		{"long", "A=1\n", nil},
		{"fifo", "", nil},
		{"link", "", unix.ELOOP},
		{"missing", "", unix.ENOENT},
		{".", "", unix.EISDIR},
	}
	for _, tt := range tests {
		got, err := readFile(fd, tt.name+"\x00", make([]byte, 8))
		if string(got) != tt.want || err != tt.err {
			t.Errorf("readFile(%q) = %q, %v, want %q, %v", tt.name, got, err, tt.want, tt.err)
		}
	}
}

func FuzzNextDirent(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x18\x00\x04uevent\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, name := range entries(b) {
			if strings.IndexByte(name, 0) != len(name)-1 {
				t.Errorf("name %q does not end in its first NUL", name)
			}
		}
	})
}
