package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"hapax/image/archive"
	"hapax/image/elfdeps"
)

// addPrograms adds the programs of the spec and of the hooks with their libraries, and the libraries of /init and the shell.
func (b *builder) addPrograms(context.Context) error {
	resolver, err := elfdeps.New(b.spec.Root)
	if err != nil {
		return err
	}
	p := programs{builder: b, resolver: resolver}
	for _, file := range []string{b.spec.Init, b.spec.Shell} {
		if err := p.libraries(file); err != nil {
			return err
		}
	}
	for _, h := range b.hooks {
		for _, name := range h.Programs {
			if err := p.add(name, name, h.why()); err != nil {
				return err
			}
		}
	}
	for _, in := range b.spec.Programs {
		if err := p.add(in.Source, in.targetName(), "--program"); err != nil {
			return err
		}
	}
	return nil
}

// programs adds programs from a root to an image.
type programs struct {
	*builder
	resolver *elfdeps.Resolver
}

// libraries adds what a file of the host that is a dynamic program needs, from the root of the spec.
func (p programs) libraries(file string) error {
	loader, err := p.interpreterOf(file)
	if err != nil || loader == "" {
		return err
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	below, err := filepath.Rel(p.spec.Root, abs)
	if err != nil || !filepath.IsLocal(below) {
		return nil // checkInterpreters has the last word
	}
	files, err := p.resolver.Closure("/" + filepath.ToSlash(below))
	if err != nil {
		return err
	}
	return p.addFiles(files[1:])
}

// interpreterOf is interpreter for the values of Spec.Init and Spec.Shell.
func (p programs) interpreterOf(file string) (string, error) {
	if file == "" || file == NoShell || file == URootShell {
		return "", nil
	}
	loader, err := interpreter(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	return loader, nil
}

// add adds a program of the root with its libraries. A script comes with its interpreter.
func (p programs) add(name, target, why string) error {
	files, err := p.resolver.Closure(name)
	if errors.Is(err, elfdeps.ErrNotELF) {
		return fmt.Errorf("program %s: %w: copy a script with --include, and name its interpreter with --program", name, err)
	}
	if err != nil {
		return fmt.Errorf("program %s: %w", name, err)
	}
	program := files[0]
	p.builder.programs = append(p.builder.programs, program.Real)
	// The kernel tells a program its real place, from which $ORIGIN counts, so that is where it has to be.
	if err := p.addReal(program.Real, program.Real, why); err != nil {
		return err
	}
	for _, link := range []string{program.Name, target} {
		if link != program.Real {
			if err := p.addOnce(archive.Symlink(strings.TrimPrefix(link, "/"), program.Real), why); err != nil {
				return err
			}
		}
	}
	return p.addFiles(files[1:])
}

// addFiles adds the libraries of a closure where the loader looks for them. One that lies under two names comes once: loaded
// twice it would be two libraries.
func (p programs) addFiles(files []elfdeps.File) error {
	for _, f := range files {
		why := "library of " + f.By
		if f.Open {
			why = "opened by " + f.By
		}
		if err := p.addReal(f.Name, f.Real, why); err != nil {
			return err
		}
		if !f.Conf {
			continue
		}
		// No ld.so.cache goes into the image, so a link leads there from a folder that every loader knows.
		if err := p.addOnce(archive.Symlink(path.Join("usr/lib", path.Base(f.Name)), f.Name), why); err != nil {
			return err
		}
	}
	return nil
}

// addReal adds the file real of the root under name, or a link if the image has the file under another name.
func (p programs) addReal(name, real, why string) error {
	inImage := strings.TrimPrefix(name, "/")
	if p.tree.Has(inImage) {
		return nil
	}
	if p.programFiles == nil {
		p.programFiles = map[string]string{}
	}
	if first := p.programFiles[real]; first != "" {
		return p.builder.add(archive.Symlink(inImage, first), why)
	}
	e, err := fileEntry(inImage, filepath.Join(p.spec.Root, real))
	if err != nil {
		return err
	}
	e.Mode = 0o755 // libraries are executable in one distribution and not in another
	p.programFiles[real] = "/" + inImage
	return p.builder.add(e, why)
}

// targetName is where a program is to be found in the image: Target, or a name in it if it ends with a slash.
func (in Include) targetName() string {
	target := in.Target
	if strings.HasSuffix(target, "/") && path.Clean(target) != "/" {
		target = path.Join(target, path.Base(in.Source))
	}
	return path.Clean("/" + target)
}
