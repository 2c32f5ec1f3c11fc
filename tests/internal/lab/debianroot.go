package lab

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// DebianInits returns the init systems that roots of Debian are made with, by the package that brings /sbin/init.
func DebianInits() []string { return []string{"systemd-sysv", "sysvinit-core", "runit-init"} }

// mmdebstrapArgs are what all roots are made with. Documentation and translations are left out: nobody reads them here, and
// each file costs time in every file system that it is packed into.
func mmdebstrapArgs() []string {
	args := []string{"--quiet", "--mode=root", "--components=main", "--aptopt=Acquire::Retries 3"}
	for _, folder := range []string{"doc", "info", "locale", "man"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+folder+"/*")
	}
	return args
}

const debianSuite = "bookworm"

// debianBase returns a tar of what the roots have in common: Debian's essential packages and those that make a machine boot
// and let a person in. It keeps apt's lists, so that what is built on it needs no second update.
func (l *Lab) debianBase(ctx context.Context) (string, error) {
	args := append(mmdebstrapArgs(), "--variant=essential", "--skip=cleanup/apt", "--include=udev,kmod,login,mount,e2fsprogs")
	return l.mmdebstrap(ctx, "base", append(args, debianSuite))
}

// debianTree returns a tar of the base with a package on top of it.
func (l *Lab) debianTree(ctx context.Context, pkg string) (string, error) {
	args, err := l.onBase(ctx, "--include="+pkg)
	if err != nil {
		return "", err
	}
	return l.mmdebstrap(ctx, pkg, append(args, debianSuite))
}

// onBase returns the arguments of mmdebstrap for a root that begins as the base.
func (l *Lab) onBase(ctx context.Context, args ...string) ([]string, error) {
	base, err := l.debianBase(ctx)
	if err != nil {
		return nil, err
	}
	args = append([]string{
		"--variant=custom", "--skip=check/empty,update,download/empty", `--setup-hook=tar -xf ` + base + ` -C "$1"`,
	}, args...)
	return append(mmdebstrapArgs(), args...), nil
}

// mmdebstrap makes a tar, whose name tells by which arguments, or returns it if it has been made before.
func (l *Lab) mmdebstrap(ctx context.Context, name string, args []string) (string, error) {
	file := filepath.Join(l.debianRoots(), recipeName(name, args)+".tar")
	return l.kept(file, func(tmp string) error {
		if logf := l.store.Logf; logf != nil {
			logf("making %s of Debian's packages", filepath.Base(file))
		}
		return run(ctx, "mmdebstrap", append(slices.Clone(args), tmp)...)
	})
}

// debianRoots is the folder of all that is made out of packages of Debian and used again by the next run.
func (l *Lab) debianRoots() string { return filepath.Join(l.Build, "debianroot") }

// recipeName makes of a name one that is another for each recipe.
func recipeName(name string, recipe []string) string {
	return fmt.Sprintf("%s-%08x", name, crc32.ChecksumIEEE([]byte(strings.Join(recipe, "\x00"))))
}

// kept has fill write a file, unless there is one from before. It is there when it is whole.
func (l *Lab) kept(file string, fill func(tmp string) error) (string, error) {
	return l.made.file(file, func() (string, error) {
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return "", err
		}
		// Tools take what to write from the end of the name.
		tmp := filepath.Join(filepath.Dir(file), fmt.Sprintf(".new-%d-%s", os.Getpid(), filepath.Base(file)))
		err := fill(tmp)
		if err == nil {
			err = os.Rename(tmp, file)
		}
		if err != nil {
			return "", errors.Join(err, os.RemoveAll(tmp))
		}
		return file, nil
	})
}

// FreshDebian unpacks a Debian with the package given, beside those of every root here, into a folder.
func (l *Lab) FreshDebian(ctx context.Context, dir, pkg string) error {
	tree, err := l.debianTree(ctx, pkg)
	if err != nil {
		return err
	}
	return run(ctx, "tar", "-x", "-f", tree, "-C", dir)
}
