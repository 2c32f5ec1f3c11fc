package modload_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/modload"
	"hapax/modload/modloadtest"
)

// A world is a random index and what each module's insertion answers.
type world struct {
	index *modloadtest.Index
	names []string
	alias []string
	errs  map[string]error
	again map[string]bool // the first call ends in vain
}

func newWorld(r *rand.Rand) world {
	w := world{index: new(modloadtest.Index), errs: map[string]error{}, again: map[string]bool{}}
	n := 2 + r.IntN(40)
	closure := make([]map[string]bool, n)
	for i := range n {
		name := fmt.Sprint("m", i)
		closure[i] = map[string]bool{}
		for range r.IntN(4) {
			if i > 0 {
				d := r.IntN(i)
				closure[i][w.names[d]] = true
				maps.Copy(closure[i], closure[d])
			}
		}
		deps := slices.Sorted(maps.Keys(closure[i]))
		r.Shuffle(len(deps), func(a, b int) { deps[a], deps[b] = deps[b], deps[a] })
		w.index.Add(name, deps...)
		w.names = append(w.names, name)
		switch r.IntN(12) {
		case 0:
			w.errs[name] = refused(unix.ENODEV)
		case 1:
			w.errs[name] = unix.ENOEXEC
		}
		w.again[name] = r.IntN(8) == 0
	}
	pick := func() string { return w.names[r.IntN(n)] }
	for range r.IntN(n + 1) { // soft edges go anywhere, circles included
		var pre, post []string
		for range r.IntN(3) {
			pre = append(pre, pick())
		}
		for range r.IntN(3) {
			post = append(post, pick())
		}
		w.index.Soft(pick(), pre, post)
	}
	for i := range 1 + r.IntN(n) {
		a := fmt.Sprint("alias:", i)
		for range 1 + r.IntN(3) {
			if m := pick(); !slices.Contains(w.index.Aliases[a], m) {
				w.index.Aliases[a] = append(w.index.Aliases[a], m)
			}
		}
		w.alias = append(w.alias, a)
	}
	return w
}

// states is the sequential model: what becomes of every module that the
// requests name, whatever the order.
func (w world) states(requests []string) map[string]string {
	out := map[string]string{}
	var visit func(name string) string
	visit = func(name string) string {
		if st, ok := out[name]; ok {
			return st
		}
		m := w.index.Modules[name]
		st := "live"
		for _, d := range m.Deps {
			if visit(d) != "live" {
				st = "failed"
			}
		}
		switch err := w.errs[name]; {
		case st != "live" || err == nil:
		case err == error(unix.ENOEXEC):
			st = "failed"
		default:
			st = "refused"
		}
		out[name] = st
		return st
	}
	// Only what was asked for by itself is certain to be in the table: a
	// module that fails at once leaves its further dependencies alone.
	asked := map[string]string{}
	for _, q := range requests {
		for _, name := range w.index.Lookup(q).Names {
			asked[name] = visit(name)
		}
	}
	return asked
}

// TestAnyInterleaving sends random requests of three kinds from several
// goroutines through random graphs. The kernel of the test fails it when a
// module is inserted twice or before a dependency is live; Settle has to
// return; and the requested modules end as the sequential model says.
func TestAnyInterleaving(t *testing.T) {
	t.Parallel()
	rounds := 2000
	if testing.Short() {
		rounds = 200
	}
	for seed := range uint64(rounds) {
		ok := t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { interleave(t, rand.New(rand.NewPCG(seed, 1))) })
		})
		if !ok {
			return
		}
	}
}

func interleave(t *testing.T, r *rand.Rand) {
	w := newWorld(r)
	k := modloadtest.NewKernel(t)
	for _, name := range w.names {
		k.Fail(name, w.errs[name])
		if w.again[name] {
			k.Starve(name, unix.ENOMEM)
		}
		k.Delay(name, time.Duration(r.IntN(5))*time.Millisecond)
	}
	workers := 1 + r.IntN(6)
	s := modload.New(modload.Options{Index: w.index, Load: k.Load, Workers: workers})

	var asked []string
	var wg sync.WaitGroup
	for range 1 + r.IntN(8) {
		queries := make([]string, 1+r.IntN(10))
		kinds := make([]int, len(queries))
		pauses := make([]time.Duration, len(queries))
		for i := range queries {
			queries[i], kinds[i] = w.alias[r.IntN(len(w.alias))], r.IntN(3)
			if kinds[i] == 2 && r.IntN(2) == 0 {
				queries[i] = w.names[r.IntN(len(w.names))]
			}
			pauses[i] = time.Duration(r.IntN(4)) * time.Millisecond
		}
		asked = append(asked, queries...)
		wg.Go(func() {
			for i, q := range queries {
				time.Sleep(pauses[i])
				switch kinds[i] {
				case 0:
					s.Request(q, modload.Origin{Kind: modload.Coldplug, By: "/devices/c"})
				case 1:
					s.Request(q, modload.Origin{Kind: modload.Uevent, By: "/devices/u"})
				case 2:
					_ = s.Load(t.Context(), q)
				}
			}
		})
	}
	wg.Wait()
	settle(t, s)

	got := states(s)
	for name, want := range w.states(asked) {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	for name, st := range got {
		if st != "live" && st != "refused" && st != "failed" {
			t.Errorf("%s is %q after Settle", name, st)
		}
	}
	if k.Peak() > workers {
		t.Errorf("%d loads at one time, want at most %d", k.Peak(), workers)
	}
	c := s.Counters()
	if len(k.Log()) != c.Finit {
		t.Errorf("%d calls, %d counted", len(k.Log()), c.Finit)
	}
	count := map[string]int{}
	for _, st := range got {
		count[st]++
	}
	if diff := cmp.Diff(map[string]int{"live": c.Live, "refused": c.Refused, "failed": c.Failed}, map[string]int{
		"live": count["live"], "refused": count["refused"], "failed": count["failed"],
	}); diff != "" {
		t.Errorf("counters against the table (-counters +table):\n%s", diff)
	}
}
