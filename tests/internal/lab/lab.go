// Package lab holds what the QEMU tests, the benchmarks and make share: the kernels of Debian, the program that runs
// inside guests, images and disks. Everything lies below the repository's build folder and is made once.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"hapax/tests/internal/debian"
)

// A Lab is one repository with its build folder. Its methods may be called concurrently.
type Lab struct {
	Root  string // the folder of go.mod
	Build string // Root/build; not committed
	store *debian.Store
	made  memo
}

// Open finds the repository that the working directory lies in. logf takes a line for each slow step; nil is silent.
func Open(logf func(format string, args ...any)) (*Lab, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return nil, errors.New("no go.mod above the working directory: run this inside the repository")
		}
		dir = parent
	}
	build := filepath.Join(dir, "build")
	return &Lab{Root: dir, Build: build, store: &debian.Store{Dir: filepath.Join(build, "debian"), Logf: logf}}, nil
}

// A KernelSpec names one of the kernels that hapax is tried with, and what it has beyond virtio and nvme.
type KernelSpec struct {
	Name              string // short, for tests and file names
	Package           string // Debian's metapackage
	AHCI, USB, E1000e bool
}

// Kernels returns the kernels that hapax is tried with, the one of make run first.
func Kernels() []KernelSpec {
	return []KernelSpec{
		{Name: "6.1-cloud", Package: "linux-image-cloud-amd64"},
		{Name: "6.12-cloud", Package: "linux-image-6.12-cloud-amd64", AHCI: true}, // modules in .ko.xz
		{Name: "6.1", Package: "linux-image-amd64", AHCI: true, USB: true, E1000e: true},
	}
}

// Trees returns what the module index is tried with: the kernels, and last one that no guest boots, for its modules.
func Trees() []KernelSpec {
	return append(Kernels(), KernelSpec{Name: "6.12", Package: "linux-image-6.12-amd64"})
}

// Logs is the folder for the console logs of failed tests.
func (l *Lab) Logs() string { return filepath.Join(l.Build, "logs") }

// Kernel fetches a kernel of Kernels and lays a link build/kernel-NAME to the root of its package, for people.
// The paths of the result hold the package's version and therefore never change their content.
func (l *Lab) Kernel(ctx context.Context, spec KernelSpec) (debian.Kernel, error) {
	k, err := l.store.Kernel(ctx, spec.Package)
	if err != nil {
		return debian.Kernel{}, err
	}
	return k, link(k.Root, filepath.Join(l.Build, "kernel-"+spec.Name))
}

// link makes file a symbolic link to target, whatever link it was before. The change is atomic.
func link(target, file string) error {
	target, err := filepath.Rel(filepath.Dir(file), target)
	if err != nil {
		return err
	}
	if old, err := os.Readlink(file); err == nil && old == target {
		return nil
	}
	tmp := fmt.Sprintf("%s.new-%d", file, os.Getpid())
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}
