package modindex

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// linkTree returns a folder with everything that dir has, through links, but for
// modules.softdep, which holds softdeps.
func linkTree(t *testing.T, dir, softdeps string) string {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "lib", "modules", filepath.Base(dir))
	if err := os.MkdirAll(copied, 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "modules.softdep" {
			continue
		}
		if err := os.Symlink(filepath.Join(dir, e.Name()), filepath.Join(copied, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(copied, "modules.softdep"), []byte(softdeps), 0o644); err != nil {
		t.Fatal(err)
	}
	return copied
}

// rewriteSoftdeps returns the softdep lines of a tree in two other forms: only
// the first line of each module, and one line for each module with all it has.
func rewriteSoftdeps(t *testing.T, dir string) (first, merged string) {
	t.Helper()
	data := readIndex(t, dir, "modules.softdep")["modules.softdep"]
	var modules []string
	for line := range lines(data) {
		if module := strings.Fields(line)[1]; !slices.Contains(modules, module) {
			modules = append(modules, module)
			first += line + "\n"
		}
	}
	all := parseSoftdeps(data)
	for _, module := range modules {
		pre, post := softdeps(all, Normalize(module))
		merged += "softdep " + module + " pre: " + strings.Join(pre, " ") + " post: " + strings.Join(post, " ") + "\n"
	}
	return first, merged
}

// For every module of the tree the order is that of modprobe --show-depends. As
// modprobe takes only the first softdep line of a module, it is asked about
// a tree in which that line has everything, and then the other way round.
func TestLoadOrderLikeModprobe(t *testing.T) {
	eachTree(t, func(t *testing.T, dir string) {
		first, merged := rewriteSoftdeps(t, dir)
		for _, c := range []struct{ name, ours, theirs string }{
			{"union", dir, linkTree(t, dir, merged)},
			{"first line", linkTree(t, dir, first), dir},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				x, k := open(t, c.ours), newKmod(t, c.theirs)
				v := machine(t, x)
				mark := unasked(t, v, x.builtins.entries())
				names := x.byPriority()
				for _, e := range x.builtins.entries() {
					if e.key != mark {
						names = append(names, e.key)
					}
				}
				for i, want := range k.depends(names, mark) {
					if got := v.shows(names[i]); !slices.Equal(want, got) {
						t.Errorf("%s (-modprobe +LoadOrder):\n%s", names[i], cmp.Diff(want, got))
					}
				}
				t.Logf("%d modules compared", len(names))
			})
		}
	})
}

// modprobe asked for one module at a time says what it says about many.
func TestOneByOneLikeModprobe(t *testing.T) {
	eachTree(t, func(t *testing.T, dir string) {
		_, merged := rewriteSoftdeps(t, dir)
		x, k := open(t, dir), newKmod(t, linkTree(t, dir, merged))
		v, g := machine(t, x), instance{newRand(2)}
		mark := unasked(t, v, x.builtins.entries())
		all := slices.Concat(x.aliases.entries(), x.deps.entries(), x.builtinAliases.entries())
		for range 50 {
			query := g.fill(all[g.rng.IntN(len(all))].key)
			if want, got := k.depends([]string{query}, mark)[0], v.shows(query); !slices.Equal(want, got) {
				t.Errorf("%q (-modprobe +LoadOrder):\n%s", query, cmp.Diff(want, got))
			}
		}
	})
}

// unasked returns one of the candidates, names of modules, that nothing but its
// own name stands for and no module asks for.
func unasked(t *testing.T, v *View, candidates []entry) string {
	t.Helper()
	asked := map[string]bool{}
	for _, e := range slices.Concat(v.x.aliases.entries(), v.x.symbols.entries(), v.x.builtinAliases.entries()) {
		asked[string(e.text)] = true
	}
	for _, line := range slices.Concat(flat(v.x.softdeps()), flat(&v.c.softdeps)) {
		for _, q := range slices.Concat(line.value.pre, line.value.post) {
			asked[Normalize(q)] = true
		}
	}
	for _, line := range flat(&v.c.aliases) {
		asked[line.value] = true
	}
	for _, e := range candidates {
		if !asked[e.key] && slices.Equal(v.Lookup(e.key).Names, []string{e.key}) {
			return e.key
		}
	}
	t.Fatal("every module has an alias")
	return ""
}

// compareLookups holds what the queries stand for against modprobe -R.
func compareLookups(t *testing.T, v *View, k kmod, queries []string) {
	t.Helper()
	mark := unasked(t, v, v.x.deps.entries()) // modprobe is quicker to find a module than a built-in one
	queries = slices.DeleteFunc(queries, func(q string) bool { return Normalize(q) == mark })
	hits := 0
	for i, want := range k.resolve(queries, mark) {
		if got := v.Lookup(queries[i]).Names; !slices.Equal(want, got) {
			t.Errorf("%q (-modprobe +Lookup):\n%s", queries[i], cmp.Diff(want, got))
		}
		hits += min(1, len(want))
	}
	if hits < len(queries)/3 || hits > len(queries)-len(queries)/10 {
		t.Errorf("%d of %d queries had a match: not a test", hits, len(queries))
	}
	t.Logf("%d queries, %d with a match", len(queries), hits)
}

// For every pattern, three strings that it covers and three that it just misses
// stand for the same modules, in the same order, as modprobe -R says; and so
// do all symbols and names, in both spellings.
func TestLookupLikeModprobe(t *testing.T) {
	eachTree(t, func(t *testing.T, dir string) {
		t.Parallel()
		x, k := open(t, dir), newKmod(t, dir)
		for round := range rounds(t) {
			g := instance{newRand(uint64(1 + round))}
			queries := patternQueries(t, x, g.rng)
			for _, e := range slices.Concat(x.symbols.entries(), x.deps.entries(), x.builtins.entries()) {
				queries = append(queries, e.key, strings.ReplaceAll(e.key, "_", "-"))
				if s, ok := g.miss(e.key); ok {
					queries = append(queries, s)
				}
			}
			compareLookups(t, machine(t, x), k, queries)
		}
	})
}
