// Package statkernel builds the kernels of the storm bench out of Debian's source package: Linux with CONFIG_MODULE_STATS,
// whose counters tell how many module loads were in vain and what memory they took.
//
// There are two of one configuration, so that the same modules fit both: Linux as it is, and one whose finit_module does
// not merge the calls for the same file, as no kernel before 6.5 did.
package statkernel

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hapax/tests/internal/debian"
)

// SourcePackage is the Debian package that holds the sources.
const SourcePackage = "linux-source-6.12"

// The variants.
const (
	Stats   = "stats"   // Linux as it is
	NoMerge = "nomerge" // each finit_module call on its own
)

//go:embed storm.config
var config string

// A Builder builds the kernels below a folder. It must be used by one process at a time.
type Builder struct {
	Dir  string                           // holds the sources, the objects and the result
	Jobs int                              // compilers at a time
	Logf func(format string, args ...any) // takes a line for each step and now and then one of progress
}

// Kernels returns the kernels by variant. They are built from source, the unpacked SourcePackage, unless those in Dir were
// made by the same recipe. That takes about 15 minutes on two cores, and about 4 GB.
func (b *Builder) Kernels(ctx context.Context, source debian.Package) (map[string]debian.Kernel, error) {
	compiler, err := os.Readlink("/usr/bin/gcc")
	if err != nil {
		return nil, fmt.Errorf("%w (Debian package gcc)", err)
	}
	want := recipe(source.Version, compiler, config, noMerge().new)
	if old, err := os.ReadFile(b.path("recipe")); err == nil && string(old) == want {
		return b.built()
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := b.build(ctx, source); err != nil {
		return nil, fmt.Errorf("statistics kernel: %w", err)
	}
	if err := os.WriteFile(b.path("recipe"), []byte(want), 0o644); err != nil {
		return nil, err
	}
	return b.built()
}

// recipe sums up what a kernel is made of.
func recipe(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:]) + "\n"
}

func (b *Builder) path(name ...string) string {
	return filepath.Join(append([]string{b.Dir}, name...)...)
}

// built describes what build has left.
func (b *Builder) built() (map[string]debian.Kernel, error) {
	trees, err := filepath.Glob(b.path("root/lib/modules/*/modules.dep"))
	if err != nil || len(trees) != 1 {
		return nil, fmt.Errorf("%s: %d module trees, want one: remove the folder to build it again", b.path("root"), len(trees))
	}
	dir := filepath.Dir(trees[0])
	kernels := make(map[string]debian.Kernel)
	for _, variant := range []string{Stats, NoMerge} {
		kernels[variant] = debian.Kernel{
			Root:       b.path("root"),
			Release:    filepath.Base(dir),
			Vmlinuz:    b.path("root/boot/vmlinuz-" + variant),
			ModulesDir: dir,
			Config:     b.path("root/boot/config"),
		}
		if _, err := os.Stat(kernels[variant].Vmlinuz); err != nil {
			return nil, err
		}
	}
	return kernels, nil
}

// A patch replaces one piece of a source file.
type patch struct {
	file     string
	old, new string
}

// noMerge returns the patch that has finit_module load the file that it was called for, whoever else does so already. The
// functions for merging stay in use as far as the compiler is concerned.
func noMerge() patch {
	const before = "\t/* Are we the winners of the race and get to do this? */\n"
	return patch{"kernel/module/main.c", before, "\treturn init_module_from_file(f, uargs, flags);\n\n" + before}
}

// apply returns the text with the patch applied. Another text than it was made for is an error.
func (p patch) apply(text string) (string, error) {
	if n := strings.Count(text, p.old); n != 1 {
		return "", fmt.Errorf("%s has the text to be replaced %d times, want once: the patch is for another kernel", p.file, n)
	}
	return strings.Replace(text, p.old, p.new, 1), nil
}
