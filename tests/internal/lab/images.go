package lab

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"hapax/image/archive"
	"hapax/tests/internal/debian"
)

// Guest builds the program that runs inside guests and returns its path.
func (l *Lab) Guest(ctx context.Context) (string, error) {
	return l.made.file("guest", func() (string, error) {
		file := filepath.Join(l.Build, "tests/guest")
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "./tests/guest")
		cmd.Dir, cmd.Env = l.Root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build ./tests/guest: %w: %s", err, out)
		}
		return file, nil
	})
}

// NullImage returns an initramfs whose /init does nothing but announce itself: what a boot costs without any init.
func (l *Lab) NullImage(ctx context.Context) (string, error) {
	return l.made.file("null", func() (string, error) {
		program, err := l.Guest(ctx)
		if err != nil {
			return "", err
		}
		t := &tree{}
		t.file("init", program)
		return t.write(filepath.Join(l.Build, "tests/null.img"))
	})
}

// UdevdImage returns an initramfs that holds all modules of k and, as its /init, the guest program with Debian's udev and
// kmod. Configuration is left out, so that devices, modules.alias and the kernel command line alone decide what is loaded.
func (l *Lab) UdevdImage(ctx context.Context, k debian.Kernel) (string, error) {
	return l.made.file("udevd "+k.Release, func() (string, error) {
		program, err := l.Guest(ctx)
		if err != nil {
			return "", err
		}
		// By Debian's policy shared libraries come in packages of their own, named after them.
		library := func(name string) bool { return strings.HasPrefix(name, "lib") }
		pkgs, err := l.store.Closure(ctx, library, "udev", "kmod")
		if err != nil {
			return "", err
		}
		t := &tree{}
		t.file("init", program)
		for _, p := range pkgs[:2] {
			t.folder(p.Root, ".", func(name string) bool { return inUdevdImage(name) })
		}
		t.libraries(pkgs)
		t.folder(k.ModulesDir, "lib/modules/"+k.Release, func(name string) bool { return name != "build" && name != "source" })
		return t.write(filepath.Join(l.Build, "tests/udevd-"+k.Release+".img"))
	})
}

// WithKmod writes an image that is base followed by Debian's kmod, whose modprobe is then /sbin/modprobe.
func (l *Lab) WithKmod(ctx context.Context, path, base string) error {
	library := func(name string) bool { return strings.HasPrefix(name, "lib") }
	pkgs, err := l.store.Closure(ctx, library, "kmod")
	if err != nil {
		return err
	}
	t := &tree{}
	t.folder(pkgs[0].Root, ".", inUdevdImage)
	t.libraries(pkgs)
	if t.err != nil {
		return t.err
	}
	return appended(path, base, t)
}

// inUdevdImage picks from the packages udev and kmod.
func inUdevdImage(name string) bool {
	switch {
	case strings.HasPrefix(name, "lib/udev/hwdb.d"), strings.HasPrefix(name, "lib/modprobe.d"):
		return false // hwdb names no module; modprobe.d is configuration
	}
	top, rest, _ := strings.Cut(name, "/")
	switch top {
	case "bin", "sbin":
		return true
	case "lib":
		return rest == "" || strings.HasPrefix(rest, "udev") || strings.HasPrefix(rest, "systemd")
	}
	return false
}

// A tree collects an image and the first error on the way.
type tree struct {
	archive.Tree
	err error
}

func (t *tree) add(e archive.Entry) {
	if t.err == nil {
		t.err = t.Add(e)
	}
}

// file adds a file of the host under a name of the image.
func (t *tree) file(name, source string) {
	info, err := os.Stat(source)
	if err != nil {
		if t.err == nil {
			t.err = err
		}
		return
	}
	t.add(archive.Entry{
		Name: name, Mode: info.Mode().Perm(), Size: info.Size(),
		Open: func() (io.ReadCloser, error) { return os.Open(source) },
	})
}

// folder adds what lies below root and is wanted, at the given place of the image. A folder that is not wanted is left out
// with all that it holds.
func (t *tree) folder(root, place string, want func(name string) bool) {
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case !want(name) && d.IsDir():
			return fs.SkipDir
		case !want(name):
			return nil
		}
		name = path.Join(place, name)
		switch {
		case d.IsDir():
			t.add(archive.Dir(name, 0o755))
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			t.add(archive.Symlink(name, target))
		default:
			t.file(name, file)
		}
		return t.err
	})
	if t.err == nil {
		t.err = err
	}
}

// write adds what every image needs and writes it, uncompressed: the kernel copies faster than it unpacks.
func (t *tree) write(file string) (string, error) {
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp"} {
		t.add(archive.Dir(dir, 0o755))
	}
	t.add(archive.CharDevice("dev/console", 0o600, archive.Devno{Major: 5, Minor: 1}))
	if t.err != nil {
		return "", t.err
	}
	return file, create(file, func(f *os.File) error { return t.archiveTo(f) })
}

// archiveTo writes the archive, uncompressed.
func (t *tree) archiveTo(w io.Writer) error {
	_, err := archive.Write(w, t.Entries(), time.Unix(0, 0))
	return err
}
