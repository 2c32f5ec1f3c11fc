package modindex

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
)

// A File is one file of an index.
type File struct {
	Name string // without a folder, such as "modules.dep.bin"
	Data []byte
}

// Reduce returns the index of an image that holds the named modules and no
// others, as files to put into its lib/modules/RELEASE, sorted by name. Open and
// libkmod read them and give for these modules the answers of src; all that
// src knows about built-in modules stays. Names may be given in either
// spelling, more than once, and in any order: the result is the same.
//
// The set must be closed: a module that needs one which is not named, or that
// src does not have, is an error. Naming a built-in module changes nothing.
// Damage in src is an error too, or the image would be silently incomplete.
func Reduce(src *Index, names []string) ([]File, error) {
	keep, err := src.closedSet(names)
	if err != nil {
		return nil, err
	}
	kept := func(e entry) bool { return keep[string(e.text)] }
	parts := []struct {
		file string
		from *trie
		keep func(entry) bool
	}{
		{"modules.alias.bin", &src.aliases, kept},
		{"modules.builtin.alias.bin", &src.builtinAliases, nil},
		{"modules.builtin.bin", &src.builtins, nil},
		{"modules.dep.bin", &src.deps, func(e entry) bool { return keep[e.key] }},
		{"modules.symbols.bin", &src.symbols, kept},
	}
	var files []File
	for _, p := range parts {
		data, err := src.subset(p.from, p.keep)
		if err != nil {
			return nil, fmt.Errorf("reduce %s: %w", p.file, err)
		}
		files = append(files, File{p.file, data})
	}
	texts, err := src.reduceTexts(keep)
	if err != nil {
		return nil, err
	}
	files = append(files, texts...)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	if err := src.Err(); err != nil {
		return nil, fmt.Errorf("reduce: %w", err)
	}
	return files, nil
}

// reduceTexts returns the lines about the modules in keep of those files that
// have no binary form: what libkmod reads, and what depmod and a reader of
// device nodes would miss. One that src does not have is left out.
func (x *Index) reduceTexts(keep map[string]bool) ([]File, error) {
	var files []File
	for _, t := range []struct {
		file  string
		split func(string) iter.Seq[string]
		about func(line string) bool
	}{
		{"modules.devname", lines, func(line string) bool { return keep[Normalize(firstWord(line))] }},
		{"modules.order", lines, func(line string) bool { return keep[NameOf(line)] }},
		{"modules.softdep", writtenLines, func(line string) bool { return concerns(line, "softdep", keep) }},
		{"modules.weakdep", writtenLines, func(line string) bool { return concerns(line, "weakdep", keep) }},
	} {
		data, err := x.readText(t.file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reduce: %w", err)
		}
		var out []byte
		for line := range t.split(data) {
			if t.about(line) {
				out = append(append(out, line...), '\n')
			}
		}
		files = append(files, File{t.file, out})
	}
	return files, nil
}

// closedSet checks the names for Reduce and returns those that are files, normalised.
func (x *Index) closedSet(names []string) (map[string]bool, error) {
	keep := map[string]bool{}
	for _, name := range names {
		m, ok := x.Module(name)
		if !ok {
			return nil, fmt.Errorf("reduce: no module %q in %s", name, x.dir)
		}
		if !m.Builtin {
			keep[m.Name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(keep)) {
		m, _ := x.Module(name)
		for _, dep := range m.Deps {
			if d, _ := x.Module(dep); !keep[dep] && !d.Builtin {
				return nil, fmt.Errorf("reduce: %s needs %s, which is not among the modules to keep", name, dep)
			}
		}
	}
	return keep, nil
}

// subset encodes what keep wants of t; nil wants all.
func (x *Index) subset(t *trie, keep func(entry) bool) (data []byte, err error) {
	defer x.caught(debug.SetPanicOnFault(true))
	all := t.entries()
	if keep != nil {
		all = slices.DeleteFunc(all, func(e entry) bool { return !keep(e) })
	}
	// entries gives values in their final order, and encode puts the later of
	// two equals first.
	slices.Reverse(all)
	return encode(all)
}

// writtenLines yields the lines of configLines as they have to be written to be read again.
func writtenLines(data string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range configLines(data) {
			if !yield(strings.ReplaceAll(line, `\`, `\\`)) {
				return
			}
		}
	}
}

// concerns reports whether a line of writtenLines with the keyword covers one of the modules.
func concerns(line, keyword string, modules map[string]bool) bool {
	words := strings.FieldsFunc(line, isBlank)
	if len(words) < 2 || words[0] != keyword {
		return false
	}
	pattern := Normalize(strings.ReplaceAll(words[1], `\\`, `\`))
	if !isGlob(pattern) {
		return modules[pattern]
	}
	for name := range modules {
		if Fnmatch(pattern, name) {
			return true
		}
	}
	return false
}

func firstWord(line string) string {
	word, _, _ := strings.Cut(line, " ")
	return word
}
