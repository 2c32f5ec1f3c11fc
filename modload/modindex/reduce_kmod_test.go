package modindex

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// modprobe reads a reduced index, and says of its modules what it says with the
// whole index, less the modules that are not there: of what a virtual machine
// loads, of one module with its dependencies, and of a few, some and most of all modules.
func TestReduceReadByModprobe(t *testing.T) {
	eachTree(t, func(t *testing.T, dir string) {
		t.Parallel()
		src := open(t, dir)
		for round := range rounds(t) {
			rng := newRand(uint64(9 + round))
			chosen := []string{"virtio_blk", "virtio_net", "nvme", "ahci", "btrfs", "xfs", "usb_storage", "vfio", "nfsd"}
			compareReduced(t, src, rng, chosen)
			for _, n := range []int{1, 20, 300, 2000} {
				names := src.byPriority()
				rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
				compareReduced(t, src, rng, names[:min(n, len(names))])
			}
		}
	})
}

// compareReduced reduces src to the closure of chosen and holds what it then says against modprobe and against src.
func compareReduced(t *testing.T, src *Index, rng *rand.Rand, chosen []string) {
	t.Helper()
	keep := map[string]bool{}
	for _, name := range chosen {
		for _, m := range src.LoadOrder(name) {
			if !m.Builtin {
				keep[m.Name] = true
			}
		}
	}
	names := slices.Sorted(maps.Keys(keep))
	small := reduced(t, src, names...)
	// libkmod drops a dependency whose file is not there.
	for _, name := range names {
		m, _ := src.Module(name)
		link(t, filepath.Join(src.Dir(), m.Path), filepath.Join(small, m.Path))
	}
	x, k, mark := open(t, small), newKmod(t, small), unasked(t, src.With(nil), src.builtins.entries())
	queries := reducedQueries(src, rng, keep)
	hits := 0
	for i, answer := range k.resolve(queries, mark) {
		if got := x.Lookup(queries[i]).Names; !slices.Equal(answer, got) {
			t.Errorf("%q (-modprobe +Lookup):\n%s", queries[i], cmp.Diff(answer, got))
		}
		full := src.Lookup(queries[i])
		want := slices.DeleteFunc(full.Names, func(n string) bool { return !keep[n] })
		if len(want) > 0 && !slices.Equal(want, answer) {
			t.Errorf("%q: %q in the reduced index, %q in the whole one", queries[i], answer, want)
		}
		hits += min(1, len(answer))
	}
	if hits < len(names) || hits == len(queries) {
		t.Errorf("%d of %d queries had a match: not a test", hits, len(queries))
	}
	first, _ := rewriteSoftdeps(t, small)
	single, whole, left := machine(t, open(t, linkTree(t, small, first))), machine(t, src), machine(t, x)
	for i, want := range k.depends(names, mark) {
		if got := single.shows(names[i]); !slices.Equal(want, got) {
			t.Errorf("%s (-modprobe +LoadOrder):\n%s", names[i], cmp.Diff(want, got))
		}
		if want, got := whole.shows(names[i]), left.shows(names[i]); !slices.Equal(want, got) {
			t.Errorf("%s (-whole +reduced):\n%s", names[i], cmp.Diff(want, got))
		}
	}
	t.Logf("%d modules, %d queries, %d with a match", len(names), len(queries), hits)
}

// reducedQueries returns strings for the patterns and symbols of the modules to
// keep, some for those of others, and the names of all.
func reducedQueries(src *Index, rng *rand.Rand, keep map[string]bool) (queries []string) {
	g := instance{rng}
	for _, e := range src.aliases.entries() {
		if !keep[string(e.text)] && rng.IntN(20) > 0 {
			continue
		}
		queries = append(queries, g.fill(e.key))
		if s, ok := g.miss(e.key); ok {
			queries = append(queries, s)
		}
	}
	for _, e := range src.symbols.entries() {
		if keep[string(e.text)] || rng.IntN(20) == 0 {
			queries = append(queries, e.key)
		}
	}
	queries = append(queries, src.byPriority()...)
	return slices.DeleteFunc(queries, func(q string) bool { return !balanced(q) })
}

// link makes to a link to from, with the folders above it.
func link(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(from, to); err != nil {
		t.Fatal(err)
	}
}
