package switchroot

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/tests/need"
)

func openDir(t testing.TB, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestFreeTree(t *testing.T) {
	t.Parallel()
	outside := plant(t, map[string]string{"keep/file": "x", "keep/sub/file": "x"})
	root := plant(t, map[string]string{
		"init": "x", "lib/modules/6.1/kernel/a.ko": "x", "lib/modules/6.1/kernel/b.ko": "x", "empty": "dir", "pipe": "pipe",
		"link": "-> " + outside + "/keep", "up": "-> ..", "dangling": "-> none", "bin/sh": "-> ../init", "new\nline": "x",
	})
	got, err := freeTree(openDir(t, root))
	if want := (freed{removed: 15}); err != nil || got != want {
		t.Errorf("freeTree = %+v, %v; want %+v", got, err, want)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	for _, file := range []string{"keep/file", "keep/sub/file"} {
		if _, err := os.Stat(filepath.Join(outside, file)); err != nil {
			t.Errorf("a file behind a link: %v", err)
		}
	}
}

// TestFreeTreeLarge has directories that take several getdents calls while their entries vanish.
func TestFreeTreeLarge(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	const files = 3000
	grow(t, root, files)
	got, err := freeTree(openDir(t, root))
	if err != nil || got.removed < files || got.kept != 0 {
		t.Errorf("freeTree = %+v, %v; want %d files removed", got, err, files)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) != 0 {
		t.Errorf("%d left, %v", len(left), err)
	}
}

// grow makes n empty files below root, in directories of up to 2000 names as long as those of modules.
func grow(t testing.TB, root string, n int) {
	t.Helper()
	for i := range n {
		dir := fmt.Sprintf("%s/%d", root, i/2000)
		if i%2000 == 0 {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(fmt.Sprintf("%s/%s%d", dir, strings.Repeat("m", 30), i), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFreeTreeErrors(t *testing.T) {
	t.Parallel()
	file := filepath.Join(plant(t, map[string]string{"f": "x"}), "f")
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	if got, err := freeTree(fd); err == nil || got != (freed{}) {
		t.Errorf("freeTree of a file = %+v, %v", got, err)
	}
	if _, err := freeTree(-1); err == nil {
		t.Error("freeTree of no descriptor has no error")
	}
}

// TestEntries decodes records as getdents64(2) lays them out, damaged ones too.
func TestEntries(t *testing.T) {
	t.Parallel()
	record := func(name string, kind byte) []byte {
		b := make([]byte, (19+len(name)+1+7)&^7)
		binary.NativeEndian.PutUint16(b[16:], uint16(len(b)))
		b[18] = kind
		copy(b[19:], name)
		return b
	}
	join := func(records ...[]byte) (all []byte) {
		for _, r := range records {
			all = append(all, r...)
		}
		return all
	}
	whole := join(record(".", unix.DT_DIR), record("..", unix.DT_DIR), record("a", unix.DT_REG), record("...", unix.DT_DIR), record("l", unix.DT_LNK))
	want := []entry{{"a", false}, {"...", true}, {"l", false}}
	if diff := cmp.Diff(want, entries(whole), cmp.AllowUnexported(entry{})); diff != "" {
		t.Errorf("entries differ (-want +got):\n%s", diff)
	}
	for n := range whole { // cut off anywhere: what is whole is read, nothing panics
		if got := entries(whole[:n]); len(got) >= len(want) {
			t.Errorf("%d of %d bytes give %v", n, len(whole), got)
		}
	}
	zero := record("a", unix.DT_REG)
	binary.NativeEndian.PutUint16(zero[16:], 0)
	if got := entries(zero); got != nil { // and it must not loop
		t.Errorf("record of length 0 gives %v", got)
	}
}

// BenchmarkFreeTree frees the tree of an image: 300 files on a tmpfs.
func BenchmarkFreeTree(b *testing.B) {
	base, err := os.MkdirTemp("/dev/shm", "free")
	if err != nil {
		need.Unmet(b, "needs a tmpfs: %v", err)
	}
	defer os.RemoveAll(base)
	for b.Loop() {
		b.StopTimer()
		grow(b, base, 300)
		fd := openDir(b, base)
		b.StartTimer()
		if got, err := freeTree(fd); err != nil || got.removed != 301 {
			b.Fatalf("%+v, %v", got, err)
		}
	}
}
