package modload_test

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hapax/modload"
	"hapax/modload/modindex"
	"hapax/modload/modloadtest"
	"hapax/tests/need"
)

// A workload is a large machine: every module of a tree is asked for.
type workload struct {
	index   *modloadtest.Index
	queries []string // aliases, and the names of the modules that have none
}

// newWorkload returns n modules: those of the last tree of HAPAX_TEST_MODULES, which is the complete one of 6.12, with
// their dependencies and aliases, and random ones for what that lacks.
func newWorkload(tb testing.TB, n int) workload {
	tb.Helper()
	w := workload{index: new(modloadtest.Index).Add("first")}
	if trees := filepath.SplitList(os.Getenv(need.TreesEnv)); len(trees) > 0 {
		if err := w.read(trees[len(trees)-1]); err != nil {
			tb.Fatal(err)
		}
	}
	w.grow(n)
	named := map[string]bool{}
	for alias, names := range w.index.Aliases {
		w.queries = append(w.queries, alias)
		for _, name := range names {
			named[name] = true
		}
	}
	for name := range w.index.Modules {
		if !named[name] {
			w.queries = append(w.queries, name)
		}
	}
	slices.Sort(w.queries)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(w.queries), func(i, j int) {
		w.queries[i], w.queries[j] = w.queries[j], w.queries[i]
	})
	return w
}

// read adds the modules of a lib/modules/RELEASE folder. Each alias stands for a device that it matches: what is left
// without its asterisks.
func (w workload) read(dir string) error {
	x, err := modindex.Open(dir)
	if err != nil {
		return err
	}
	defer x.Close()
	for m := range x.All() {
		m.Deps = slices.DeleteFunc(m.Deps, func(dep string) bool {
			d, ok := x.Module(dep)
			return !ok || d.Builtin
		})
		w.index.Modules[m.Name] = m
	}
	text, err := os.ReadFile(filepath.Join(dir, "modules.alias"))
	if err != nil {
		return err
	}
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		if len(f) != 3 || f[0] != "alias" {
			continue
		}
		alias, name := strings.ReplaceAll(f[1], "*", ""), modindex.Normalize(f[2])
		if _, ok := w.index.Modules[name]; ok && !slices.Contains(w.index.Aliases[alias], name) {
			w.index.Aliases[alias] = append(w.index.Aliases[alias], name)
		}
	}
	return x.Err()
}

// grow adds modules until there are n. Each needs up to two others, with all that these need.
func (w workload) grow(n int) {
	r := rand.New(rand.NewPCG(3, 4))
	names := slices.Sorted(maps.Keys(w.index.Modules))
	for i := len(names); i < n; i++ {
		var deps []string
		for range r.IntN(3) {
			d := names[r.IntN(len(names))]
			for _, dep := range append(slices.Clone(w.index.Modules[d].Deps), d) {
				if !slices.Contains(deps, dep) {
					deps = append(deps, dep)
				}
			}
		}
		name := fmt.Sprint("grown", i)
		w.index.Add(name, deps...)
		names = append(names, name)
	}
}

// latency is how long the init function of a module takes: between 1 and 128 ms, the same in every run.
func latency(name string) time.Duration {
	h := fnv.New32a()
	h.Write([]byte(name))
	return time.Millisecond << (h.Sum32() >> 8 % 8)
}

// total is how long all loads take one after the other.
func (w workload) total() (d time.Duration) {
	for name := range w.index.Modules {
		d += latency(name)
	}
	return d
}

// criticalPath is the time that no number of workers can do with: that of the longest chain of modules of which each
// waits for the one before. Of a circle of soft dependencies one is left out, as the Scheduler does.
func (w workload) criticalPath() time.Duration {
	ends := map[string]time.Duration{} // 0 while the module is being visited
	var end func(name string) time.Duration
	end = func(name string) time.Duration {
		if d, ok := ends[name]; ok {
			return d
		}
		ends[name] = 0
		m := w.index.Modules[name]
		var begin time.Duration
		for _, dep := range m.Deps {
			begin = max(begin, end(dep))
		}
		for _, query := range m.Pre {
			for _, dep := range w.index.Lookup(query).Names {
				begin = max(begin, end(dep))
			}
		}
		ends[name] = begin + latency(name)
		return ends[name]
	}
	var longest time.Duration
	for _, name := range slices.Sorted(maps.Keys(w.index.Modules)) {
		longest = max(longest, end(name))
	}
	return longest
}

// storm makes so many requests from 64 goroutines, by the aliases in turn.
func (w workload) storm(s *modload.Scheduler, requests int, kind modload.Kind) {
	const askers = 64
	var wg sync.WaitGroup
	for a := range askers {
		wg.Go(func() {
			o := modload.Origin{Kind: kind, By: "/devices/system/cpu/cpu1"}
			for i := a; i < requests; i += askers {
				s.Request(w.queries[i%len(w.queries)], o)
			}
		})
	}
	wg.Wait()
}

// TestMakespan loads 5,000 modules after 100,000 requests from 64 goroutines, on a clock on which nothing but init
// functions takes time. With a worker for each module the end comes when the longest chain of dependencies allows it;
// with fewer, no later than Graham's bound for schedules that leave no worker idle while something is ready.
func TestMakespan(t *testing.T) {
	t.Parallel()
	w := newWorkload(t, 5000)
	n, critical, total := len(w.index.Modules), w.criticalPath(), w.total()
	for _, workers := range []int{1, 8, 32, 128, n} {
		t.Run(fmt.Sprint("workers=", workers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := modloadtest.NewKernel(t)
				for name := range w.index.Modules {
					k.Delay(name, latency(name))
				}
				requests := len(w.queries)
				if workers == n {
					requests = 100_000
				}
				s := modload.New(modload.Options{Index: w.index, Load: k.Load, Workers: workers})
				begun := time.Now()
				w.storm(s, requests, modload.Coldplug)
				settle(t, s)
				makespan := time.Since(begun)

				if c := s.Counters(); c.Live != n || c.Finit != n || c.Requests != requests {
					t.Errorf("%d modules live after %d calls and %d requests, want %d, as many and %d", c.Live, c.Finit, c.Requests, n, requests)
				}
				least := max(total/time.Duration(workers), critical*9/10) // of the circles another edge may be left out
				most := total/time.Duration(workers) + critical - critical/time.Duration(workers)
				if workers == n {
					most = critical * 11 / 10
				}
				if makespan < least || makespan > most {
					t.Errorf("settled after %v, want %v to %v", makespan, least, most)
				}
				t.Logf("settled after %v = %.3f of the critical path; the loads add up to %v", makespan, float64(makespan)/float64(critical), total)
			})
		})
	}
}
