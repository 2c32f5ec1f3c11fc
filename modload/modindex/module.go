package modindex

import (
	"cmp"
	"iter"
	"runtime/debug"
	"slices"
	"strings"
)

// A Module is what the index says about one module.
type Module struct {
	Name    string   // normalised
	Path    string   // relative to Index.Dir, absolute for a module kept elsewhere; "" if built in
	Deps    []string // all modules it needs, providers first: the order to load them in
	Pre     []string // queries to ask for before it; one that nothing answers is skipped
	Post    []string // and after it
	Builtin bool     // part of the kernel image: always live
	Install string   // the command to run instead of loading it; only View.Module fills it
}

// Module returns the module of that name, in either spelling. A name that is
// both built in and a file is built in, as for libkmod. Soft dependencies are
// queries for Lookup, all lines of modules.softdep together.
func (x *Index) Module(name string) (Module, bool) {
	m, ok := x.module(name)
	if ok && !m.Builtin {
		m.Pre, m.Post = softdeps(x.softdeps(), m.Name)
	}
	return m, ok
}

// module is Module without the soft dependencies.
func (x *Index) module(name string) (m Module, ok bool) {
	defer x.caught(debug.SetPanicOnFault(true))
	name = Normalize(name)
	key := []byte(name)
	if _, ok := x.builtins.find(key); ok {
		return Module{Name: name, Builtin: true}, true
	}
	v, ok := x.deps.find(key)
	if !ok {
		builtin := x.aliased()[name]
		return Module{Name: name, Builtin: builtin}, builtin
	}
	path, deps, ok := parseDep(string(v.text))
	if !ok {
		x.deps.spoiled(errDepLine)
		return Module{}, false
	}
	return Module{Name: name, Path: path, Deps: deps}, true
}

// All yields every module that is a file, in the order of modules.order and
// then the rest, which is the order of priority. It reads the whole index.
func (x *Index) All() iter.Seq[Module] {
	return func(yield func(Module) bool) {
		for _, name := range x.byPriority() {
			if m, ok := x.Module(name); ok && !m.Builtin && !yield(m) {
				return
			}
		}
	}
}

// byPriority returns the names of all modules with a line in modules.dep.
func (x *Index) byPriority() (names []string) {
	defer x.caught(debug.SetPanicOnFault(true))
	all := x.deps.entries()
	slices.SortStableFunc(all, func(a, b entry) int { return cmp.Compare(a.priority, b.priority) })
	for _, e := range all {
		names = append(names, e.key)
	}
	return names
}

// parseDep splits a line of modules.dep. It names the providers behind their
// users, so the order to load them in is from right to left.
func parseDep(line string) (path string, deps []string, ok bool) {
	path, rest, ok := strings.Cut(line, ":")
	if !ok || path == "" {
		return "", nil, false
	}
	files := strings.FieldsFunc(rest, isBlank)
	slices.Reverse(files)
	if len(files) > 0 {
		deps = make([]string, 0, len(files))
		for _, f := range files {
			deps = append(deps, NameOf(f))
		}
	}
	return path, deps, true
}

// aliasedBuiltins returns the built-in modules that have aliases. Some, such as
// debugfs, cannot be modules, so modules.builtin does not list them.
func (x *Index) aliasedBuiltins() map[string]bool {
	set := map[string]bool{}
	for _, e := range x.builtinAliases.entries() {
		set[string(e.text)] = true
	}
	return set
}
