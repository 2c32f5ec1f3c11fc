package applet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hapax/modload"
	"hapax/modload/modindex"
)

// A modinfo is one run of modinfo(8).
type modinfo struct {
	*env
	field string // the only one to show, "" for all
	end   string // what ends a value
	dir   string
	index finder
}

func runModinfo(e *env, args []string) int {
	g := getopt{argv0: e.argv0, shorts: "adlpn0mF:k:b:Vh", longs: modinfoLongs(), posix: e.getenv("POSIXLY_CORRECT") != ""}
	g.parse(args)
	m := &modinfo{env: e, end: "\n"}
	var byName bool
	var base, release string
	for _, o := range g.opts {
		switch o.code {
		case 'a':
			m.field = "author"
		case 'd':
			m.field = "description"
		case 'l':
			m.field = "license"
		case 'p':
			m.field = "parm"
		case 'n':
			m.field = "filename"
		case '0':
			m.end = "\x00"
		case 'm':
			byName = true
		case 'F':
			m.field = o.arg
		case 'k':
			release = o.arg
		case 'b':
			base = o.arg
		case 'V':
			return e.version()
		case 'h':
			fmt.Fprintf(e.stdout, modinfoHelp, e.name)
			return 0
		default:
			fmt.Fprintln(e.stderr, o.arg)
			return 1
		}
	}
	if len(g.operands) == 0 {
		e.errorf("missing module or filename.")
		return 1
	}
	m.dir = e.moduleDir(base, release)
	m.index = openIndex(m.dir)
	code := 0
	for _, arg := range g.operands {
		if !m.about(arg, byName) {
			code = 1
		}
	}
	return code
}

func modinfoLongs() []long {
	return []long{
		{"author", false, 'a'}, {"description", false, 'd'}, {"license", false, 'l'}, {"parameters", false, 'p'},
		{"filename", false, 'n'}, {"null", false, '0'}, {"modname", false, 'm'}, {"field", true, 'F'},
		{"set-version", true, 'k'}, {"basedir", true, 'b'}, {"version", false, 'V'}, {"help", false, 'h'},
	}
}

const modinfoHelp = `Usage:
	%s [options] <modulename|filename> [args]
Options:
	-a, --author                Print only 'author'
	-d, --description           Print only 'description'
	-l, --license               Print only 'license'
	-p, --parameters            Print only 'parm'
	-n, --filename              Print only 'filename'
	-0, --null                  Use \0 instead of \n
	-m, --modname               Handle argument as module name instead of alias or filename
	-F, --field=FIELD           Print only provided FIELD
	-k, --set-version=VERSION   Use VERSION instead of the running kernel's
	-b, --basedir=DIR           Use DIR as filesystem root for /lib/modules
	-V, --version               Show version
	-h, --help                  Show this help
`

// about shows what an argument stands for: a file, a module, or all modules of an alias.
func (m *modinfo) about(arg string, byName bool) bool {
	if !byName && isModuleFile(arg) {
		path := arg
		if wd, err := os.Getwd(); err == nil && !filepath.IsAbs(path) {
			path = wd + "/" + path
		}
		return m.show(modindex.Module{Name: moduleName(arg), Path: path})
	}
	if byName {
		name, _, _ := strings.Cut(arg, ".")
		mod, known := m.index.Module(name)
		if !known {
			m.errorf("Module name %s not found.", arg)
			return false
		}
		return m.show(mod)
	}
	hits := m.index.Lookup(arg)
	if len(hits.Names) == 0 {
		m.errorf("Module %s not found.", arg)
		return false
	}
	ok := true
	for _, name := range hits.Names {
		mod, _ := m.index.Module(name)
		mod.Name = name
		ok = m.show(mod) && ok
	}
	return ok
}

// isModuleFile reports whether name is a file with the name of one.
func isModuleFile(name string) bool {
	st, err := os.Stat(name)
	if err != nil || !st.Mode().IsRegular() {
		return false
	}
	for _, suffix := range []string{".ko", ".ko.gz", ".ko.xz", ".ko.zst"} {
		if strings.HasSuffix(name, suffix) && name != suffix {
			return true
		}
	}
	return false
}

// show prints one module.
func (m *modinfo) show(mod modindex.Module) bool {
	path := "(builtin)"
	if mod.Path == "" {
		m.head("name", mod.Name)
	} else if path = mod.Path; !filepath.IsAbs(path) {
		path = m.dir + "/" + path
	}
	if m.head("filename", path); m.field == "filename" {
		return true
	}
	fields, err := m.read(mod, path)
	if mod.Path == "" && errors.Is(err, fs.ErrNotExist) {
		return true // a kernel that tells nothing about what is built in
	}
	if err != nil {
		m.errorf("could not get modinfo from '%s': %s", mod.Name, strerror(err))
		return false
	}
	var params paramList
	for _, f := range fields {
		if f.key != "parm" && f.key != "parmtype" {
			m.put(f.key, f.value)
			continue
		}
		if err := params.add(f); err != nil && (m.field == "" || m.field == "parm") {
			m.errorf("%v", err)
		}
	}
	if m.field == "" || m.field == "parm" {
		m.putParams(params)
	}
	return true
}

// head prints a field that is not from the module, if it is wanted. modinfo -0
// writes it as without -0.
func (m *modinfo) head(key, value string) {
	switch m.field {
	case "":
		fmt.Fprintf(m.stdout, "%s:%-*s%s%s", key, 15-len(key), "", value, m.end)
	case key:
		fmt.Fprintf(m.stdout, "%s%s", value, m.end)
	}
}

// put prints a field of the module, if it is wanted.
func (m *modinfo) put(key, value string) {
	if m.field == "" && m.end == "\x00" {
		fmt.Fprintf(m.stdout, "%s=%s%s", key, value, m.end)
		return
	}
	m.head(key, value)
}

// read returns the fields of a module, those of its signature last.
func (m *modinfo) read(mod modindex.Module, path string) ([]field, error) {
	if mod.Path == "" {
		return m.readBuiltin(mod.Name)
	}
	file, err := modload.ReadModuleFile(path)
	if err != nil {
		return nil, err
	}
	section, err := modload.ModuleSection(bytes.NewReader(file), ".modinfo")
	if err != nil {
		return nil, err
	}
	return append(splitInfo(section, ""), signatureFields(file)...), nil
}

// readBuiltin returns the fields of a module that is part of the kernel.
func (m *modinfo) readBuiltin(name string) ([]field, error) {
	b, err := os.ReadFile(m.dir + "/modules.builtin.modinfo")
	if err != nil {
		return nil, err
	}
	fields := splitInfo(b, name+".")
	if len(fields) == 0 {
		return nil, unix.ENOSYS
	}
	return fields, nil
}

// splitInfo reads strings of the form KEY=VALUE that begin with the prefix.
func splitInfo(b []byte, prefix string) (fields []field) {
	for s := range bytes.SplitSeq(b, []byte{0}) {
		text, ok := strings.CutPrefix(string(s), prefix)
		if !ok || text == "" {
			continue
		}
		key, value, _ := strings.Cut(text, "=")
		fields = append(fields, field{key, value})
	}
	return fields
}

// A param is what a module says about one of its parameters.
type param struct {
	name, text, kind string
	hasText, hasKind bool
}

// A paramList is in the order in which parameters were first named.
type paramList []param

// add takes "parm=NAME:TEXT" or "parmtype=NAME:TYPE".
func (l *paramList) add(f field) error {
	name, value, ok := strings.Cut(f.value, ":")
	if !ok {
		return fmt.Errorf(`Found invalid "%s=%s": missing ':'`, f.key, f.value)
	}
	at := 0
	for at < len(*l) && (*l)[at].name != name {
		at++
	}
	if at == len(*l) {
		*l = append(*l, param{name: name})
	}
	if p := &(*l)[at]; f.key == "parm" {
		p.text, p.hasText = value, true
	} else {
		p.kind, p.hasKind = value, true
	}
	return nil
}

// putParams prints parameters, the one that was named last first, as modinfo does.
func (m *modinfo) putParams(list paramList) {
	for i := len(list) - 1; i >= 0; i-- {
		p := list[i]
		text := p.name + ":" + p.text
		switch {
		case !p.hasText && m.field != "":
			text = p.name + ": (" + p.kind + ")"
		case !p.hasText:
			text = p.name + ":" + p.kind
		case p.hasKind:
			text += " (" + p.kind + ")"
		}
		if m.field == "" {
			fmt.Fprintf(m.stdout, "%-16s", "parm:")
		}
		fmt.Fprintf(m.stdout, "%s%s", text, m.end)
	}
}
