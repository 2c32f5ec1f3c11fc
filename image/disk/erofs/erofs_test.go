package erofs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/tests/need"
)

// sampleTree fills a folder with files of all sizes around a block, folders of several blocks, and what else there is.
func sampleTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, 100, 4031, 4032, 4033, 4095, 4096, 4097, 8191, 8192, 100_000} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		must(os.WriteFile(filepath.Join(dir, fmt.Sprintf("file%d", size)), data, 0o640))
	}
	must(os.MkdirAll(filepath.Join(dir, "many/-before the dots"), 0o755))
	for i := range 400 {
		must(os.WriteFile(filepath.Join(dir, "many", strings.Repeat("n", i%60)+fmt.Sprint(i)), []byte(fmt.Sprint(i)), 0o644))
	}
	must(os.Mkdir(filepath.Join(dir, "empty"), 0o700))
	must(os.Symlink("file100", filepath.Join(dir, "link")))
	must(os.Symlink(strings.Repeat("long/", 815), filepath.Join(dir, "long link")))
	must(os.Link(filepath.Join(dir, "file100"), filepath.Join(dir, "many/hard link")))
	must(unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	must(os.WriteFile(filepath.Join(dir, "setuid"), []byte("x"), 0o755))
	must(os.Chmod(filepath.Join(dir, "setuid"), 0o755|fs.ModeSetuid))
	return dir
}

func write(t *testing.T, dir string) string {
	t.Helper()
	fileSystem, err := New(dir, time.Unix(1_700_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "erofs.img"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fileSystem.Image.WriteRaw(t.Context(), f), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// fsck.erofs checks the file system and extracts it as it was.
func TestExtract(t *testing.T) {
	t.Parallel()
	need.Tools(t, "fsck.erofs")
	dir := sampleTree(t)
	image, back := write(t, dir), filepath.Join(t.TempDir(), "back")
	out, err := exec.CommandContext(t.Context(), "fsck.erofs", "--preserve-perms", "--no-preserve-owner", "--extract="+back, image).CombinedOutput()
	if err != nil {
		t.Fatalf("fsck.erofs: %v\n%s", err, out)
	}
	seen := 0
	err = filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, file)
		want, err := os.Lstat(file)
		if err != nil {
			return err
		}
		got, err := os.Lstat(filepath.Join(back, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return nil
		}
		seen++
		if got.Mode() != want.Mode() || want.Mode().IsRegular() && got.Size() != want.Size() {
			t.Errorf("%s: %v of %d bytes, want %v of %d", name, got.Mode(), got.Size(), want.Mode(), want.Size())
		}
		switch want.Mode().Type() {
		case 0:
			a, _ := os.ReadFile(file)
			b, err := os.ReadFile(filepath.Join(back, name))
			if err != nil || !bytes.Equal(a, b) {
				t.Errorf("%s: the content differs (%v)", name, err)
			}
		case fs.ModeSymlink:
			a, _ := os.Readlink(file)
			if b, err := os.Readlink(filepath.Join(back, name)); err != nil || a != b {
				t.Errorf("%s: link to %q, want %q (%v)", name, b, a, err)
			}
		}
		return nil
	})
	if err != nil || seen < 420 {
		t.Errorf("%d files compared (%v)", seen, err)
	}
}

// dump.erofs shows modes, owners, times and links.
func TestInodes(t *testing.T) {
	t.Parallel()
	need.Tools(t, "dump.erofs")
	image := write(t, sampleTree(t))
	for name, want := range map[string][]string{
		"/":                      {"directory", "Links: 4", "Uid: 0   Gid: 0", "Access: 0755"},
		"/file100":               {"Size: 100 ", "regular", "Links: 2", "Access: 0640", "Timestamp: 2023-11-14 22:13:20.000000000"},
		"/pipe":                  {"FIFO"},
		"/many/-before the dots": {"directory", "Links: 2"},
	} {
		cmd := exec.CommandContext(t.Context(), "dump.erofs", "--path="+name, image)
		cmd.Env = append(os.Environ(), "TZ=UTC")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("dump.erofs %s: %v", name, err)
		}
		for _, w := range want {
			if !strings.Contains(string(out), w) {
				t.Errorf("dump.erofs does not show %q of %s:\n%s", w, name, out)
			}
		}
	}
}

func TestReproducible(t *testing.T) {
	t.Parallel()
	first, err := os.ReadFile(write(t, sampleTree(t)))
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(write(t, sampleTree(t)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("two folders with the same files give two file systems")
	}
}

func TestPrivate(t *testing.T) {
	t.Parallel()
	for _, want := range []bool{false, true} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "shadow"), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		if want {
			if err := os.Chmod(filepath.Join(dir, "shadow"), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := New(dir, time.Unix(0, 0)); err != nil || got.Private != want {
			t.Errorf("Private = %v, %v; want %v", got.Private, err, want)
		}
	}
}

// Files become root's, and what lets others act as their owner does not come along, unless that was root.
func TestSetuid(t *testing.T) {
	t.Parallel()
	need.Root(t)
	dir := t.TempDir()
	for name, owner := range map[string][2]int{"games": {5, 60}, "root": {0, 0}, "group": {0, 42}} {
		file := filepath.Join(dir, name)
		err := errors.Join(os.WriteFile(file, nil, 0o755), os.Chown(file, owner[0], owner[1]), os.Chmod(file, 0o755|fs.ModeSetuid|fs.ModeSetgid))
		if err != nil {
			t.Fatal(err)
		}
	}
	tree, err := scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]fs.FileMode{
		"games": 0o755, "root": 0o755 | fs.ModeSetuid | fs.ModeSetgid, "group": 0o755 | fs.ModeSetuid,
	}
	for _, c := range tree.nodes[0].children {
		if mode, ok := want[c.name]; ok && c.node.mode != mode {
			t.Errorf("%s: mode %v, want %v", c.name, c.node.mode, mode)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if _, err := New(dir, time.Unix(0, 0)); err == nil || !strings.Contains(err.Error(), "socket") {
		t.Errorf("a folder with a socket: %v", err)
	}
	if _, err := New(filepath.Join(dir, "absent"), time.Unix(0, 0)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}
