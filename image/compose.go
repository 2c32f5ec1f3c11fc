package image

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"hapax/image/archive"
	"hapax/image/assets"
	"hapax/image/resolve"
	"hapax/modload/modindex"
)

// release identifies the image to systemd, which takes a system with this file for an initramfs (initrd-release(5)).
const release = "ID=hapax\nNAME=hapax\nPRETTY_NAME=\"hapax initramfs\"\n"

// compose collects the files of an image and returns them with the number of modules.
func compose(spec Spec, index *modindex.Index) (*archive.Tree, int, error) {
	tree := &archive.Tree{}
	modules, err := addModules(tree, spec, index)
	if err != nil {
		return nil, 0, err
	}
	for _, add := range []func(*archive.Tree, Spec) error{addSkeleton, addInit, addShell, addIncludes, checkInterpreters} {
		if err := add(tree, spec); err != nil {
			return nil, 0, err
		}
	}
	return tree, modules, nil
}

// addSkeleton adds the folders that init mounts on, and the nodes that it needs before it has mounted devtmpfs: without
// /dev/console the kernel starts it with no standard streams at all.
func addSkeleton(tree *archive.Tree, _ Spec) error {
	for _, dir := range []string{"bin", "dev", "etc", "lib/modules", "proc", "run", "sys", "sysroot"} {
		if err := tree.Add(archive.Dir(dir, 0o755)); err != nil {
			return err
		}
	}
	for _, e := range []archive.Entry{
		archive.Dir("tmp", fs.ModeSticky|0o777),
		archive.CharDevice("dev/console", 0o600, archive.Devno{Major: 5, Minor: 1}),
		archive.CharDevice("dev/kmsg", 0o600, archive.Devno{Major: 1, Minor: 11}),
		archive.CharDevice("dev/null", 0o666, archive.Devno{Major: 1, Minor: 3}),
		archive.Bytes("etc/initrd-release", 0o644, []byte(release)),
	} {
		if err := tree.Add(e); err != nil {
			return err
		}
	}
	return nil
}

// addModules adds the selected modules as they are stored in the tree, the index that knows these and no others, the
// one of what is left out, for the boot report, and the list of those to load at every boot. It returns the number of
// modules.
func addModules(tree *archive.Tree, spec Spec, index *modindex.Index) (int, error) {
	rules, err := spec.rules()
	if err != nil {
		return 0, err
	}
	modules, err := resolve.Select(index, rules)
	if err != nil {
		return 0, err
	}
	dir := path.Join("lib/modules", filepath.Base(spec.ModulesDir))
	names := make([]string, 0, len(modules))
	for _, m := range modules {
		file, err := fileEntry(path.Join(dir, m.Path), filepath.Join(index.Dir(), m.Path))
		if err != nil {
			return 0, err
		}
		file.Mode = 0o644 // a build by root and one by a user with another umask give the same image
		if err := tree.Add(file); err != nil {
			return 0, err
		}
		names = append(names, m.Name)
	}
	files, err := modindex.Reduce(index, names)
	if err != nil {
		return 0, err
	}
	missing, err := modindex.MissingFile(index, names)
	if err != nil {
		return 0, err
	}
	for _, f := range append(files, missing) {
		if err := tree.Add(archive.Bytes(path.Join(dir, f.Name), 0o644, f.Data)); err != nil {
			return 0, err
		}
	}
	return len(modules), addForceLoad(tree, spec.ForceLoad, index)
}

// addForceLoad writes modules-load.d(5) with the names that the queries stand for.
func addForceLoad(tree *archive.Tree, queries []string, index *modindex.Index) error {
	if len(queries) == 0 {
		return nil
	}
	var list strings.Builder
	for _, query := range queries {
		names, err := resolve.Lookup(index, query)
		if err != nil {
			return fmt.Errorf("force-load: %w", err)
		}
		for _, name := range names {
			list.WriteString(name + "\n")
		}
	}
	return tree.Add(archive.Bytes("etc/modules-load.d/hapax.conf", 0o644, []byte(list.String())))
}

// addInit adds /init. It is stored as it is: one compression, that of the archive, is enough.
func addInit(tree *archive.Tree, spec Spec) error {
	if spec.Init == "" {
		binary, err := assets.Init()
		if err != nil {
			return fmt.Errorf("%w or give --init FILE", err)
		}
		return tree.Add(archive.Bytes("init", 0o755, binary))
	}
	return addProgram(tree, "init", spec.Init)
}

// addShell adds /bin/sh, which the guard starts when a boot fails.
func addShell(tree *archive.Tree, spec Spec) error {
	switch spec.Shell {
	case NoShell:
		return nil
	case URootShell:
		binary, commands, err := assets.URoot()
		if err != nil {
			return fmt.Errorf("%w or give --shell FILE", err)
		}
		return addURoot(tree, binary, commands)
	}
	return addProgram(tree, "bin/sh", spec.Shell)
}

// addURoot adds u-root's binary with a link for each command, by whose name it knows what to do.
func addURoot(tree *archive.Tree, binary []byte, commands []string) error {
	if err := tree.Add(archive.Bytes("bbin/bb", 0o755, binary)); err != nil {
		return err
	}
	for _, name := range commands {
		if err := tree.Add(archive.Symlink("bbin/"+name, "bb")); err != nil {
			return err
		}
	}
	return tree.Add(archive.Symlink("bin/sh", "../bbin/gosh"))
}

// addProgram adds an executable file under another name.
func addProgram(tree *archive.Tree, name, file string) error {
	e, err := fileEntry(name, file)
	if err != nil {
		return err
	}
	if e.Size == 0 {
		return fmt.Errorf("%s is empty, so it cannot be /%s", file, name)
	}
	e.Mode = 0o755
	return tree.Add(e)
}

// fileEntry returns a regular file whose content is read when the archive is written.
func fileEntry(name, file string) (archive.Entry, error) {
	info, err := os.Stat(file)
	if err != nil {
		return archive.Entry{}, fmt.Errorf("%w", err)
	}
	if !info.Mode().IsRegular() {
		return archive.Entry{}, fmt.Errorf("%s is not a regular file", file)
	}
	return archive.Entry{
		Name: name, Mode: info.Mode(), Size: info.Size(),
		Open: func() (io.ReadCloser, error) { return os.Open(file) },
	}, nil
}

// checkInterpreters refuses programs that could not start in the image because their dynamic loader is not there. That
// would show only at the moment when the shell is needed.
func checkInterpreters(tree *archive.Tree, spec Spec) error {
	programs := []string{spec.Init, spec.Shell}
	for _, file := range programs {
		if file == "" || file == NoShell || file == URootShell {
			continue
		}
		loader, err := interpreter(file)
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		if loader != "" && !tree.Has(strings.TrimPrefix(path.Clean(loader), "/")) {
			return fmt.Errorf("%s needs %s, which is not in the image: take a static program, or add that and its "+
				"libraries with --include", file, loader)
		}
	}
	return nil
}

// interpreter returns the dynamic loader of an ELF program, "" for a static one and for any other file.
func interpreter(file string) (string, error) {
	f, err := elf.Open(file)
	if _, other := errors.AsType[*elf.FormatError](err); other || errors.Is(err, io.EOF) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
		return strings.TrimRight(string(name), "\x00"), err
	}
	return "", nil
}

// secret reports whether an included file may be read by its owner only, so that the image has to be as private.
func secret(e archive.Entry) bool { return e.Mode.IsRegular() && e.Mode&fs.FileMode(0o004) == 0 }
