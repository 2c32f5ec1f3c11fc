package inroot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"hapax/tests/need"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	err := errors.Join(os.MkdirAll(filepath.Join(root, "usr/lib/deep"), 0o755), os.Symlink("/usr/lib", filepath.Join(root, "lib")),
		os.Symlink("../../../../usr", filepath.Join(root, "usr/lib/up")), os.Symlink("circle", filepath.Join(root, "circle")),
		os.Symlink("/etc/passwd", filepath.Join(root, "out")))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"/": "/", "": "/", "lib/deep": "/usr/lib/deep", "/lib//deep/.": "/usr/lib/deep", "/lib/up/lib": "/usr/lib", "/../../usr": "/usr",
		"/lib/..": "/usr", "/out": "", "/circle": "", "/usr/absent": "",
	} {
		if got, err := Resolve(root, name); got != want || (want == "") != (err != nil) {
			t.Errorf("Resolve(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := Resolve(root, "/out"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link to what is there on the host alone = %v", err)
	}
}

func TestMode(t *testing.T) {
	t.Parallel()
	need.Root(t)
	file := filepath.Join(t.TempDir(), "file")
	const bits = fs.ModeSetuid | fs.ModeSetgid
	for owner, want := range map[[2]int]fs.FileMode{{0, 0}: bits, {5, 0}: fs.ModeSetgid, {0, 5}: fs.ModeSetuid, {5, 5}: 0} {
		err := errors.Join(os.WriteFile(file, nil, 0o755), os.Chown(file, owner[0], owner[1]), os.Chmod(file, 0o755|bits))
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := Mode(info); got != want|0o755 {
			t.Errorf("of %v: %v, want %v", owner, got, want|0o755)
		}
	}
}
