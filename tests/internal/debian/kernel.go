package debian

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// A Kernel is an unpacked kernel package. All paths lie in the store.
type Kernel struct {
	Root       string // of its package
	Release    string // what uname -r prints under it
	Vmlinuz    string
	ModulesDir string // lib/modules/RELEASE, with the index files of depmod(8)
	Config     string // the options it was built with
}

// Kernel returns the kernel that the package stands for. The name may be that of a metapackage such as
// linux-image-cloud-amd64, whose dependency changes with each security update.
func (s *Store) Kernel(ctx context.Context, name string) (Kernel, error) {
	p, err := s.Package(ctx, name)
	if err != nil {
		return Kernel{}, err
	}
	for _, d := range p.Depends {
		if strings.HasPrefix(d, "linux-image-") {
			if p, err = s.Package(ctx, d); err != nil {
				return Kernel{}, err
			}
			break
		}
	}
	return kernelIn(p)
}

func kernelIn(p Package) (Kernel, error) {
	const prefix = "vmlinuz-"
	found, err := filepath.Glob(filepath.Join(p.Root, "boot", prefix+"*"))
	if err != nil || len(found) != 1 {
		return Kernel{}, fmt.Errorf("%s: package %s has %d kernels below boot, want one", p.Root, p.Name, len(found))
	}
	release := strings.TrimPrefix(filepath.Base(found[0]), prefix)
	return Kernel{
		Root:       p.Root,
		Release:    release,
		Vmlinuz:    found[0],
		ModulesDir: filepath.Join(p.Root, "lib/modules", release),
		Config:     filepath.Join(p.Root, "boot/config-"+release),
	}, nil
}
