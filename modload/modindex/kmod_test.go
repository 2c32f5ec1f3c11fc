package modindex

import (
	"math/rand/v2"
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
				names := x.byPriority()
				for _, e := range x.builtins.entries() {
					names = append(names, e.key)
				}
				if testing.Short() {
					names = names[:len(names)/20]
				}
				for _, name := range names {
					if diff := cmp.Diff(k.depends(name), depends(x, name)); diff != "" {
						t.Errorf("%s (-modprobe +LoadOrder):\n%s", name, diff)
					}
				}
				t.Logf("%d modules compared", len(names))
			})
		}
	})
}

// newRand returns a source of the same numbers in every run.
func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

// An instance makes strings from a pattern.
type instance struct{ rng *rand.Rand }

// fill returns a string that the pattern covers, with something else for each wildcard every time.
func (g instance) fill(pattern string) string {
	fillers := []string{"", "0", "A/b", "x-1", "_", "00001AF4", ".a:b,c"}
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*':
			b.WriteString(fillers[g.rng.IntN(len(fillers))])
		case '?':
			b.WriteByte("az09_/"[g.rng.IntN(6)])
		case '[':
			end := i + strings.IndexByte(pattern[i:], ']')
			b.WriteByte(pattern[i+1+g.rng.IntN(end-i-1)])
			i = end
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// spoil changes one byte of s, so that most patterns no longer cover it.
func (g instance) spoil(s string) string {
	i := g.rng.IntN(len(s))
	return s[:i] + string("Zz9_*x"[g.rng.IntN(6)]) + s[i+1:]
}

// unasked returns a built-in module that nothing but its own name stands for.
func unasked(t *testing.T, x *Index) string {
	t.Helper()
	asked := map[string]bool{}
	for _, e := range slices.Concat(x.aliases.entries(), x.builtinAliases.entries()) {
		asked[string(e.text)] = true
	}
	for _, e := range x.builtins.entries() {
		if hits := x.Lookup(e.key); !asked[e.key] && slices.Equal(hits.Names, []string{e.key}) {
			return e.key
		}
	}
	t.Fatal("every built-in module has an alias")
	return ""
}

// For every pattern, three strings that it covers and three that are one byte
// off stand for the same modules, in the same order, as modprobe -R says.
func TestLookupLikeModprobe(t *testing.T) {
	eachTree(t, func(t *testing.T, dir string) {
		x, k := open(t, dir), newKmod(t, dir)
		g := instance{newRand(1)}
		var queries []string
		for _, p := range []*trie{&x.aliases, &x.builtinAliases} {
			for _, e := range p.entries() {
				for range 3 {
					s := g.fill(e.key)
					queries = append(queries, s, g.spoil(s))
				}
			}
		}
		mark := unasked(t, x)
		for i, e := range slices.Concat(x.symbols.entries(), x.deps.entries(), x.builtins.entries()) {
			if i%4 == 0 && e.key != mark {
				queries = append(queries, e.key, strings.ReplaceAll(e.key, "_", "-"), g.spoil(e.key))
			}
		}
		// A query that modprobe refuses, see the package comment, has no answer to compare.
		queries = slices.DeleteFunc(queries, func(q string) bool { return !balanced(q) })
		hits := 0
		for i, want := range k.resolve(queries, mark) {
			got := x.Lookup(queries[i]).Names
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%q (-modprobe +Lookup):\n%s", queries[i], diff)
			}
			hits += min(1, len(want))
		}
		if hits < len(queries)/3 || hits == len(queries) {
			t.Errorf("%d of %d queries had a match: not a test", hits, len(queries))
		}
		t.Logf("%d queries, %d with a match", len(queries), hits)
	})
}
