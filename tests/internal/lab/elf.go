package lab

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"hapax/tests/internal/debian"
)

// loader is the dynamic linker of Debian's amd64, as programs name it.
const loader = "lib64/ld-linux-x86-64.so.2"

// libraries adds the shared libraries that the ELF programs of the tree need, and that these need in turn, out of the
// packages. A library that none of them holds is an error, not a guest that cannot start its programs.
func (t *tree) libraries(pkgs []debian.Package) {
	if t.err != nil {
		return
	}
	var queue []string
	for _, e := range t.Entries() {
		if e.Mode.Type() != 0 || e.Mode&0o100 == 0 {
			continue
		}
		for _, p := range pkgs {
			queue = append(queue, filepath.Join(p.Root, e.Name))
		}
	}
	found := map[string]string{} // name in the image to file
	for len(queue) > 0 && t.err == nil {
		file := queue[0]
		queue = queue[1:]
		var needed []string
		needed, t.err = neededBy(file)
		for _, soname := range needed {
			name, source := findLibrary(pkgs, soname)
			switch {
			case source == "":
				t.err = fmt.Errorf("%s needs %s, which no package in the closure holds", file, soname)
			case found[name] == "":
				found[name] = source
				queue = append(queue, source)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		t.file(name, found[name])
	}
}

// neededBy returns the libraries that a file names. A file that is not there, or is no ELF file, names none.
func neededBy(file string) ([]string, error) {
	f, err := elf.Open(file)
	var format *elf.FormatError
	if errors.Is(err, fs.ErrNotExist) || errors.As(err, &format) || errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	if err == nil && f.Section(".interp") != nil {
		needed = append(needed, filepath.Base(loader))
	}
	return needed, err
}

// findLibrary returns the place of a library in the image and its file on the host, or "" for both.
func findLibrary(pkgs []debian.Package, soname string) (name, source string) {
	for _, p := range pkgs {
		for _, dir := range []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"} {
			source := filepath.Join(p.Root, dir, soname)
			if _, err := os.Stat(source); err != nil { // follows the link from libx.so.1 to libx.so.1.2
				continue
			}
			if soname == filepath.Base(loader) {
				return loader, source
			}
			return filepath.Join(dir, soname), source
		}
	}
	return "", ""
}
