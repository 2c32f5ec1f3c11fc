package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"hapax/tests/internal/debian"
)

// A TestModule is a module built from tests/testmodule/module.c.
type TestModule struct {
	Name     string
	Provides string   // the symbol that it exports; "" for none
	Needs    string   // the symbol of another one that it uses; "" for none
	Aliases  []string // that it declares
	Pack     string   // the suffix of its compressed form, "xz" or "zst"; "" for none

	// Base, if not "", names an earlier module of the set from whose file this one is made, which takes no compiler: the
	// strings in Replace, each with the one behind it, which is as long, are what tells them apart.
	Base    string
	Replace []string

	// Change, if not nil, makes the content of the file in the folder, after depmod has seen it as it should be.
	Change func(content []byte) ([]byte, error)
}

// WithTestModules returns a modules folder that holds those of k and the test modules, with the indexes of depmod. It is
// made anew once in each process: name distinguishes sets and may hold slashes.
func (l *Lab) WithTestModules(ctx context.Context, k debian.Kernel, name string, modules []TestModule) (string, error) {
	return l.made.file("modules "+name+" "+k.Release, func() (string, error) {
		base := filepath.Join(l.Build, "tests/modules", name, k.Release)
		if err := os.RemoveAll(base); err != nil {
			return "", err
		}
		dir := filepath.Join(base, "lib/modules", k.Release)
		if err := linkTree(k.ModulesDir, dir); err != nil {
			return "", err
		}
		extra := filepath.Join(dir, "extra")
		if err := l.buildModules(ctx, k, filepath.Join(base, "build"), extra, modules); err != nil {
			return "", err
		}
		if err := run(ctx, "depmod", "-b", base, k.Release); err != nil {
			return "", err
		}
		for _, m := range modules {
			if err := m.change(extra); err != nil {
				return "", err
			}
		}
		return dir, nil
	})
}

// buildModules builds the modules in the folder work and puts them into the folder extra.
func (l *Lab) buildModules(ctx context.Context, k debian.Kernel, work, extra string, modules []TestModule) error {
	headers, err := l.headers(ctx, k)
	if err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(work, 0o755), os.MkdirAll(extra, 0o755)); err != nil {
		return err
	}
	kbuild := "ccflags-y := -I" + filepath.Join(l.Root, "tests/testmodule") + "\n"
	for _, m := range modules {
		if m.Base != "" {
			continue
		}
		var source string
		for macro, value := range map[string]string{"PROVIDES": m.Provides, "NEEDS": m.Needs} {
			if value != "" {
				source += "#define " + macro + " " + value + "\n"
			}
		}
		if len(m.Aliases) > 0 {
			source += "#define ALIASES"
			for _, alias := range m.Aliases {
				source += " MODULE_ALIAS(" + strconv.Quote(alias) + ");"
			}
			source += "\n"
		}
		source += "#include \"module.c\"\n"
		if err := os.WriteFile(filepath.Join(work, m.Name+".c"), []byte(source), 0o644); err != nil {
			return err
		}
		kbuild += "obj-m += " + m.Name + ".o\n"
	}
	if err := os.WriteFile(filepath.Join(work, "Kbuild"), []byte(kbuild), 0o644); err != nil {
		return err
	}
	// Debian's headers name the compiler of its own build, and the BTF section of a module needs another tool yet.
	if err := run(ctx, "make", "-s", "-C", headers, "M="+work, "CC=gcc", "CONFIG_DEBUG_INFO_BTF_MODULES=",
		"-j"+strconv.Itoa(runtime.NumCPU()), "modules"); err != nil {
		return err
	}
	for _, m := range modules {
		file := filepath.Join(extra, m.Name+".ko")
		if m.Base != "" {
			err = m.derive(file, filepath.Join(extra, m.Base+".ko"))
		} else {
			err = os.Rename(filepath.Join(work, m.Name+".ko"), file)
		}
		if err != nil {
			return err
		}
		switch m.Pack { // as the kernel's own build does
		case "xz":
			err = run(ctx, "xz", "--check=crc32", "--lzma2=dict=1MiB", file)
		case "zst":
			err = run(ctx, "zstd", "-q", "--rm", file)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// derive makes the module's file of that of its base.
func (m TestModule) derive(file, base string) error {
	content, err := os.ReadFile(base)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(strings.NewReplacer(m.Replace...).Replace(string(content))), 0o644)
}

// change gives the module's file its final content.
func (m TestModule) change(extra string) error {
	if m.Change == nil {
		return nil
	}
	file := filepath.Join(extra, m.Name+".ko")
	if m.Pack != "" {
		file += "." + m.Pack
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if content, err = m.Change(content); err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o644)
}

// headers returns the folder that modules for k are built with: the contents of three packages, which refer to each other.
func (l *Lab) headers(ctx context.Context, k debian.Kernel) (string, error) {
	own := "linux-headers-" + k.Release
	return l.made.file(own, func() (string, error) {
		wanted := func(name string) bool {
			return strings.HasPrefix(name, "linux-headers-") || strings.HasPrefix(name, "linux-kbuild-")
		}
		pkgs, err := l.store.Closure(ctx, wanted, own)
		if err != nil {
			return "", err
		}
		root := filepath.Join(l.Build, "tests", own)
		if err := os.RemoveAll(root); err != nil {
			return "", err
		}
		for _, p := range pkgs {
			if err := linkTree(filepath.Join(p.Root, "usr"), filepath.Join(root, "usr")); err != nil {
				return "", err
			}
		}
		// The Makefile in the folder of this kernel includes that of the common one by an absolute path.
		common := slices.IndexFunc(pkgs, func(p debian.Package) bool { return strings.HasSuffix(p.Name, "-common") })
		if common < 0 {
			return "", fmt.Errorf("%s depends on no package of common headers", own)
		}
		dir := filepath.Join(root, "usr/src", own)
		makefile := "include " + filepath.Join(root, "usr/src", pkgs[common].Name, "Makefile") + "\n"
		if err := os.Remove(filepath.Join(dir, "Makefile")); err != nil { // the store's own file has the other link
			return "", err
		}
		return dir, os.WriteFile(filepath.Join(dir, "Makefile"), []byte(makefile), 0o644)
	})
}

// linkTree makes the folder target and lays links to the files below source in it. What is there already stays.
func linkTree(source, target string) error {
	return filepath.WalkDir(source, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(source, file)
		if err != nil {
			return err
		}
		place := filepath.Join(target, name)
		if d.IsDir() {
			return os.MkdirAll(place, 0o755)
		}
		return os.Link(file, place)
	})
}

// run runs a tool to its end. What it prints is part of the error.
func run(ctx context.Context, name string, args ...string) error {
	path, err := debian.Tool(name)
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, path, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
