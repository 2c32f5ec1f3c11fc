package inspect

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"hapax/image/modfile"
	"hapax/modload/modindex"
)

// maxModules bounds what makeIndex reads. The whole tree of Debian has 4,230 modules.
const maxModules = 10_000

// A moduleInfo is what the .modinfo section of a module says, by key; a key may have several values.
type moduleInfo map[string][]string

// parseModule reads the .modinfo section of a module file, plain or packed. It unpacks it only as far as that.
func parseModule(data []byte) (moduleInfo, error) {
	r, err := modfile.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	plain := bufio.NewReaderSize(r, 64<<10)
	if magic, err := plain.Peek(len(elf.ELFMAG)); string(magic) != elf.ELFMAG {
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, errors.New("not an ELF file")
	}
	fields, err := modfile.ReadInfo(plain)
	if err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		return nil, errors.New("no .modinfo section: not a kernel module, or cut short")
	}
	info := moduleInfo{}
	for _, field := range fields {
		if key, value, ok := strings.Cut(field, "="); ok {
			info[key] = append(info[key], value)
		}
	}
	return info, nil
}

// parseModules reads several on all processors. A module that cannot be read has an error in its place.
func parseModules(files []*File) ([]moduleInfo, []error) {
	infos, errs := make([]moduleInfo, len(files)), make([]error, len(files))
	var work errgroup.Group
	work.SetLimit(runtime.GOMAXPROCS(0))
	for i, f := range files {
		work.Go(func() error {
			infos[i], errs[i] = parseModule(f.Content.Data)
			return nil
		})
	}
	_ = work.Wait() // none of them returns an error
	return infos, errs
}

// release returns the kernel that the module was built for, the first word of vermagic.
func (m moduleInfo) release() string {
	if len(m["vermagic"]) == 0 {
		return ""
	}
	word, _, _ := strings.Cut(m["vermagic"][0], " ")
	return word
}

// boosterAliases is the list of aliases in an image of booster, which has no modules.dep: a pattern and a name a line.
const boosterAliases = "booster.alias"

// makeIndex writes modules.dep, modules.alias and modules.softdep of the modules below dir to a folder of the host, from
// their .modinfo sections as depmod(8) does.
func (t *Tree) makeIndex(dir, to string) error {
	files := map[string]*File{}
	var list []*File
	for _, f := range t.Files() {
		if strings.HasPrefix(f.Path, dir+"/") && IsModule(f.Path) && f.Mode.IsRegular() {
			files[modindex.NameOf(f.Path)] = f
			list = append(list, f)
		}
	}
	if len(list) > maxModules {
		return fmt.Errorf("%d modules without an index: at most %d are looked at", len(list), maxModules)
	}
	if err := t.Load(list...); err != nil {
		return err
	}
	infos := map[string]moduleInfo{}
	parsed, errs := parseModules(list)
	for i, f := range list {
		if errs[i] != nil {
			return fmt.Errorf("%s: %w", f.Path, errs[i])
		}
		infos[modindex.NameOf(f.Path)] = parsed[i]
	}
	var deps, aliases, softdeps strings.Builder
	for _, f := range list {
		name := modindex.NameOf(f.Path)
		if files[name] != f {
			continue
		}
		deps.WriteString(strings.TrimPrefix(f.Path, dir+"/") + ":")
		for _, dep := range slices.Backward(providers(name, infos)) {
			file := "kernel/" + dep + ".ko" // one that is not there is found out later
			if f := files[dep]; f != nil {
				file = strings.TrimPrefix(f.Path, dir+"/")
			}
			deps.WriteString(" " + file)
		}
		deps.WriteString("\n")
		for _, alias := range infos[name]["alias"] {
			fmt.Fprintf(&aliases, "alias %s %s\n", alias, name)
		}
		for _, line := range infos[name]["softdep"] {
			fmt.Fprintf(&softdeps, "softdep %s %s\n", name, line)
		}
	}
	if f, ok := t.Lookup(path.Join(dir, boosterAliases)); ok && f.Content != nil && f.Content.Data != nil {
		aliases.Reset() // what the modules say and this list does not, booster does not know
		for line := range strings.Lines(string(f.Content.Data)) {
			aliases.WriteString("alias " + line)
		}
	}
	return writeIndex(to, map[string]string{
		"modules.dep": deps.String(), "modules.alias": aliases.String(), "modules.softdep": softdeps.String(),
	})
}

// providers returns what a module depends on, directly or not, in an order to load them in.
func providers(name string, infos map[string]moduleInfo) []string {
	var order []string
	seen := map[string]bool{name: true}
	var visit func(name string)
	visit = func(name string) {
		for _, list := range infos[name]["depends"] {
			for dep := range strings.SplitSeq(list, ",") {
				dep = modindex.Normalize(strings.TrimSpace(dep))
				if dep == "" || seen[dep] || strings.ContainsAny(dep, "/ \t\n:") {
					continue
				}
				seen[dep] = true
				visit(dep)
				order = append(order, dep)
			}
		}
	}
	visit(name)
	return order
}
