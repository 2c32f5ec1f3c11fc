package inspect

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// load reads the contents that the later steps look at, in one pass.
func (c *check) load() error {
	var files []*File
	for _, program := range []struct {
		name string
		file **File
	}{{"init", &c.init}, {"bin/sh", &c.shell}} {
		if f, ok := c.tree.Lookup(program.name); ok {
			*program.file = f
			files = append(files, f)
		}
	}
	for _, u := range c.use {
		files = append(files, u.file)
	}
	if c.image != nil && len(c.use) == 0 && len(c.modules) > 0 { // one of them tells for which kernel they are
		files = append(files, c.modules[c.firstModule()])
	}
	return c.tree.Load(files...)
}

// programs looks at /init and at the shell.
func (c *check) programs() error {
	const initWhy = "the kernel starts it first"
	if c.init == nil {
		c.report.find(Error, "init", "/init", "not in the image: the kernel would look for a root by itself, without any module")
	} else {
		c.program("init", "/init", c.init, initWhy)
	}
	switch {
	case c.shell == nil && c.target.Shell == ShellRequired:
		c.report.find(Error, "shell", "/bin/sh", "not in the image, and a shell is required: build it with --shell")
	case c.shell != nil && c.target.Shell == NoShell:
		c.report.find(Error, "shell", "/bin/sh", "in the image, and a shell is forbidden: build it without --shell")
	case c.shell == nil:
		c.report.find(Note, "shell", "/bin/sh", "not in the image: a boot that fails cannot be looked into")
	default:
		c.program("shell", "/bin/sh", c.shell, "a boot that fails starts it")
	}
	return nil
}

// program reports what would keep a program of the image from being started.
func (c *check) program(kind, name string, f *File, why string) {
	complain := func(format string, args ...any) {
		level := Error
		if kind == "shell" {
			level = Warning
		}
		c.report.find(level, kind, name, "%s, but %s", why, fmt.Sprintf(format, args...))
	}
	switch {
	case !f.Mode.IsRegular():
		complain("it is no regular file")
		return
	case f.Mode&0o111 == 0:
		complain("it is not executable")
		return
	}
	if interpreter, ok := shebang(f.Content.Data); ok {
		c.script = true
		if p, ok := c.tree.Lookup(interpreter); !ok || !p.Mode.IsRegular() || p.Mode&0o111 == 0 {
			complain("its interpreter %q is not in the image", interpreter)
		}
		return
	}
	needs, err := readProgram(f.Content.Data)
	if err != nil {
		complain("it is neither a script nor an ELF program: %v", err)
		return
	}
	if arch := c.arch(); arch != elf.EM_NONE && arch != needs.machine {
		complain("it is for %v, while the machine is %v", needs.machine, arch)
	}
	if needs.loader != "" {
		if p, ok := c.tree.Lookup(needs.loader); !ok || !p.Mode.IsRegular() {
			complain("its loader %s is not in the image", needs.loader)
		}
	}
	for _, library := range needs.libraries {
		if !c.hasLibrary(library) {
			complain("its library %s is not in the image", library)
		}
	}
}

// shebang returns the interpreter of a script.
func shebang(content []byte) (string, bool) {
	line, ok := bytes.CutPrefix(content, []byte("#!"))
	if !ok {
		return "", false
	}
	line, _, _ = bytes.Cut(line[:min(len(line), 255)], []byte("\n")) // BINPRM_BUF_SIZE
	words := strings.Fields(string(line))
	if len(words) == 0 {
		return "", true
	}
	return words[0], true
}

// programNeeds are what a kernel and a dynamic loader look for before a program starts.
type programNeeds struct {
	machine   elf.Machine
	loader    string // "" for a static one
	libraries []string
}

// maxLibraries bounds the names that are taken from a program.
const maxLibraries = 1000

func readProgram(content []byte) (n programNeeds, err error) {
	if len(content) == 0 {
		return n, errors.New("it is empty")
	}
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return n, err
	}
	n.machine = f.Machine
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
		if err != nil {
			return n, fmt.Errorf("damaged: %w", err)
		}
		n.loader = strings.TrimRight(string(name), "\x00")
	}
	if n.loader == "" {
		return n, nil // a static program may list libraries that nobody loads
	}
	if n.libraries, err = f.ImportedLibraries(); err != nil {
		return n, fmt.Errorf("damaged: %w", err)
	}
	n.libraries = n.libraries[:min(len(n.libraries), maxLibraries)]
	return n, nil
}

// hasLibrary reports whether some folder of the image has a file of that name. Which folders the loader looks into is not
// asked: that a library lies in a wrong place is not what goes wrong with images.
func (c *check) hasLibrary(name string) bool {
	if strings.Contains(name, "/") {
		_, ok := c.tree.Lookup(name)
		return ok
	}
	if c.libraries == nil {
		c.libraries = map[string]bool{}
		for p := range c.tree.files {
			c.libraries[path.Base(p)] = true
		}
	}
	return c.libraries[name]
}

// arch returns the architecture of the target's machine, EM_NONE if it has none or one that is not known here.
func (c *check) arch() elf.Machine {
	if c.target.Machine == nil {
		return elf.EM_NONE
	}
	return map[string]elf.Machine{
		"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "riscv64": elf.EM_RISCV,
	}[c.target.Machine.Arch]
}
