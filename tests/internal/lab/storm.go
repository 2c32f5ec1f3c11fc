package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"hapax/image/archive"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
)

// Package fetches a Debian package into the store.
func (l *Lab) Package(ctx context.Context, name string) (debian.Package, error) {
	return l.store.Package(ctx, name)
}

// StormImage returns an initramfs that each contender of the storm bench runs in: hapax with all modules of k, and after it
// the programs of the others. hapax is the host command that builds it, "" for the one of this tree; with control its init
// is that of the negative control.
func (l *Lab) StormImage(ctx context.Context, k debian.Kernel, hapax string, control bool) (string, error) {
	return l.made.file(fmt.Sprint("storm ", k.Release, hapax, control), func() (string, error) {
		program, err := l.Guest(ctx)
		if err != nil {
			return "", err
		}
		if hapax == "" {
			if hapax, err = l.Hapax(ctx); err != nil {
				return "", err
			}
		}
		dir := filepath.Join(l.Build, "storm")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
		name := k.Release
		args := []string{"build", "--force", "--mode", "all", "--compression", "none", "--shell", program, "--modules-dir", k.ModulesDir}
		if control {
			init := filepath.Join(dir, "init-"+guest.ControlTag)
			cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", guest.ControlTag, "-o", init, "./init")
			cmd.Dir, cmd.Env = l.Root, append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				return "", fmt.Errorf("build ./init with the tag %s: %w: %s", guest.ControlTag, err, out)
			}
			name += "-" + guest.Control
			args = append(args, "--init", init)
		}
		base := filepath.Join(dir, fmt.Sprintf("%s-base-%d.img", name, os.Getpid())) // two benches may run at a time
		defer os.Remove(base)
		if err := run(ctx, hapax, append(args, base)...); err != nil {
			return "", err
		}
		contenders, err := l.contenders(ctx, program)
		if err != nil {
			return "", err
		}
		image := filepath.Join(dir, name+".img")
		return image, appended(image, base, contenders)
	})
}

// contenders returns the programs that the storm bench adds to hapax's image. Configuration is left out, so that devices
// and modules.alias alone decide what is loaded.
func (l *Lab) contenders(ctx context.Context, program string) (*tree, error) {
	library := func(name string) bool { return strings.HasPrefix(name, "lib") }
	pkgs, err := l.store.Closure(ctx, library, "udev", "kmod")
	if err != nil {
		return nil, err
	}
	busybox, err := l.store.Package(ctx, "busybox-static")
	if err != nil {
		return nil, err
	}
	oracle := filepath.Join(l.Build, "tests/oracle")
	source := filepath.Join(l.Root, "tests/storm/oracle/oracle.c")
	if err := run(ctx, "gcc", "-static", "-O2", "-Wall", "-Werror", "-o", oracle, source); err != nil {
		return nil, err
	}
	t := &tree{}
	t.add(archive.Dir(guest.StormDir, 0o755))
	t.file(guest.StormInit, program)
	t.file(filepath.Join(guest.StormDir, "oracle"), oracle)
	t.file(filepath.Join(guest.StormDir, "busybox"), filepath.Join(busybox.Root, "bin/busybox"))
	for _, p := range pkgs[:2] {
		t.folder(p.Root, ".", func(name string) bool { return name != guest.Modprober && inUdevdImage(name) })
	}
	t.libraries(pkgs)
	return t, t.err
}

// appended writes an image that is base followed by the tree.
func appended(path, base string, t *tree) error {
	return create(path, func(f *os.File) error {
		b, err := os.Open(base)
		if err != nil {
			return err
		}
		defer b.Close()
		n, err := f.ReadFrom(b)
		if err != nil {
			return err
		}
		// An archive begins at a multiple of four bytes; zeros between two are skipped.
		if _, err := f.Write(make([]byte, -n&3)); err != nil {
			return err
		}
		if err := t.archiveTo(f); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
}
