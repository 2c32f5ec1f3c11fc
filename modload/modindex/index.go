package modindex

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
)

// An Index is the module index of one kernel release. It does not change after
// Open and may be used by several goroutines at once.
type Index struct {
	dir string

	deps           trie // module -> "path: provider ..."
	aliases        trie // pattern -> module
	symbols        trie // "symbol:NAME" -> module
	builtins       trie // module -> ""
	builtinAliases trie // pattern -> module

	maps     [][]byte // what Close unmaps
	damage   atomic.Pointer[error]
	searches sync.Pool // of *search

	softdeps func() *rules[softdep] // parsed at the first call
	aliased  func() map[string]bool // built-in modules that only builtinAliases names
}

// Open reads the index in dir, a /lib/modules/RELEASE folder. Each part is
// modules.X.bin, or its text twin if that file is missing or its header is
// damaged. Without modules.dep in either form there is no index, and the error
// says how to make one; a part other than that may be missing, as in a folder
// reduced by hand, and then knows nothing. A damaged part without a twin is
// empty as well, and Err reports it: a boot goes on with what is left.
func Open(dir string) (*Index, error) {
	x := &Index{dir: filepath.Clean(dir)}
	if err := x.load(); err != nil {
		return nil, errors.Join(err, x.Close())
	}
	x.searches.New = func() any { return new(search) }
	x.softdeps = sync.OnceValue(x.readSoftdeps)
	x.aliased = sync.OnceValue(x.aliasedBuiltins)
	return x, nil
}

// Close releases the files. No other method may run during it or after it,
// except Dir and Err. What the methods have returned stays valid.
func (x *Index) Close() error {
	maps := x.maps
	x.maps = nil
	return unmapAll(maps)
}

// Dir returns the folder that was opened.
func (x *Index) Dir() string { return x.dir }

// Err returns the first damage that Open or a search met, nil if there was
// none. It names the file and the remedy. The search itself found nothing then.
func (x *Index) Err() error {
	if err := x.damage.Load(); err != nil {
		return *err
	}
	return nil
}

// Hits is what a query stands for.
type Hits struct {
	Names   []string // normalised, each once, in the order to load them; built-in ones included
	ByAlias bool     // found through a pattern or a symbol, not by name: the blacklist applies
}

// Lookup returns the modules that query stands for: a module name, a modalias,
// an alias such as "fs-ext4", or "symbol:NAME". It asks in libkmod's order, names
// of modules, symbols, aliases, built-in modules, aliases of those, and the first
// that knows the query answers alone, with all its matches in the order of
// modules.order. '-' and '_' are the same. No match gives no Names and
// allocates nothing. A query over 4 KiB matches nothing.
func (x *Index) Lookup(query string) Hits { return x.lookup(query, nil) }

// lookup is Lookup with a configuration, which may be nil.
func (x *Index) lookup(query string, c *Config) (hits Hits) {
	defer x.caught(debug.SetPanicOnFault(true))
	if len(query) > maxQuery {
		return Hits{}
	}
	s := x.searches.Get().(*search)
	s.set(query)
	hits = x.ask(s, c)
	x.searches.Put(s) // not if a fault ends the search
	return hits
}

// ask is lookup for the query of s.
func (x *Index) ask(s *search, c *Config) Hits {
	if found := c.aliased(s.query); found != nil {
		return Hits{found, true}
	}
	named := bytes.IndexByte(s.query, ':') < 0
	if named && x.deps.has(s.query) {
		return Hits{Names: []string{string(s.query)}}
	}
	if bytes.HasPrefix(s.query, []byte("symbol:")) {
		if found := s.in(&x.symbols); len(found) > 0 {
			return Hits{names(found), true}
		}
	}
	if c.commanded(s.query) {
		return Hits{Names: []string{string(s.query)}}
	}
	if found := s.in(&x.aliases); len(found) > 0 {
		return Hits{names(found), true}
	}
	if x.builtins.has(s.query) {
		return Hits{Names: []string{string(s.query)}}
	}
	if found := s.in(&x.builtinAliases); len(found) > 0 {
		return Hits{names(found), true}
	}
	return Hits{}
}

// names copies the texts of found, each once.
func names(found []value) []string {
	list := make([]string, 0, len(found))
next:
	for _, v := range found {
		for _, have := range list {
			if have == string(v.text) {
				continue next
			}
		}
		list = append(list, string(v.text))
	}
	return list
}

// caught is deferred by whatever reads a mapping, with the setting that
// debug.SetPanicOnFault had before. It turns the fault of a file that lost its
// end into damage; the caller returns its zero result then.
func (x *Index) caught(before bool) {
	debug.SetPanicOnFault(before)
	switch r := recover().(type) {
	case nil:
	case interface{ Addr() uintptr }: // a runtime.Error of a fault
		x.note(fmt.Errorf("%s: an index file is damaged: %w; run depmod", x.dir, errShrunk))
	default:
		panic(r)
	}
}

// note keeps err for Err unless there is one already.
func (x *Index) note(err error) { x.damage.CompareAndSwap(nil, &err) }

// load opens the five parts.
func (x *Index) load() error {
	// modules.dep comes first: the text readers take priorities from it.
	var err error
	if x.deps, err = x.part("modules.dep", x.textDeps); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return &MissingError{Dir: x.dir}
		}
		return fmt.Errorf("%w; run depmod", err)
	}
	for _, p := range []struct {
		to   *trie
		file string
		text func() ([]entry, error)
	}{
		{&x.aliases, "modules.alias", x.textAliases},
		{&x.symbols, "modules.symbols", x.textSymbols},
		{&x.builtins, "modules.builtin", x.textBuiltins},
		{&x.builtinAliases, "modules.builtin.alias", x.textBuiltinAliases},
	} {
		if *p.to, err = x.part(p.file, p.text); err != nil && !errors.Is(err, fs.ErrNotExist) {
			x.note(fmt.Errorf("%w; run depmod", err))
		}
	}
	return nil
}

// part opens one part of the index, from its .bin file or else from text. The
// error is fs.ErrNotExist only if there is neither.
func (x *Index) part(name string, text func() ([]entry, error)) (trie, error) {
	file := filepath.Join(x.dir, name+".bin")
	t, errBin := x.mapTrie(file)
	if errBin == nil {
		return t, nil
	}
	entries, err := text()
	if err == nil {
		var data []byte
		if data, err = encode(entries); err == nil {
			return newTrie(filepath.Join(x.dir, name), data, &x.damage)
		}
	}
	if !errors.Is(errBin, fs.ErrNotExist) {
		err = errBin // the twin is only the way out
	}
	return trie{}, err
}

func (x *Index) mapTrie(file string) (trie, error) {
	data, err := mapFile(file)
	if err != nil {
		return trie{}, err
	}
	if data != nil {
		x.maps = append(x.maps, data)
	}
	return newTrie(file, data, &x.damage)
}

// A MissingError reports that a folder has no module index. It is fs.ErrNotExist.
type MissingError struct{ Dir string }

func (e *MissingError) Error() string {
	root, release := filepath.Split(e.Dir)
	root = strings.TrimSuffix(filepath.Clean(root), "lib/modules")
	if root == "" {
		root = "."
	}
	return e.Dir + ": no modules.dep.bin and no modules.dep; run depmod -b " + filepath.Clean(root) + " " + release
}

// Is makes errors.Is(err, fs.ErrNotExist) true.
func (e *MissingError) Is(target error) bool { return target == fs.ErrNotExist }
