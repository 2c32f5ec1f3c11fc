package modload_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"hapax/modload"
	"hapax/modload/modindex"
	"hapax/modload/modloadtest"
)

// askingKernel is a kernel whose modules request others from their init
// functions, as request_module does.
type askingKernel struct {
	*modloadtest.Kernel
	t     *testing.T
	s     *modload.Scheduler
	asks  map[string][]string // queries, one after the other
	known bool                // whether the kernel says who asks

	mu      sync.Mutex
	answers map[string]error // by "module>query"
	asking  map[string]bool
}

func newAskingKernel(t *testing.T, x *modloadtest.Index, known bool, o modload.Options, asks map[string][]string) *askingKernel {
	k := &askingKernel{
		Kernel: modloadtest.NewKernel(t), t: t, asks: asks, known: known,
		answers: map[string]error{}, asking: map[string]bool{},
	}
	o.Index, o.Load = x, k.load
	if !known {
		o.Asking = func(m string) bool {
			k.mu.Lock()
			defer k.mu.Unlock()
			return k.asking[m]
		}
	}
	k.s = modload.New(o)
	return k
}

// upcall makes one request as the kernel does and returns what the helper ends with.
func (k *askingKernel) upcall(module, query string) error {
	c := modload.Call{Query: query, Origin: modload.Origin{Kind: modload.Upcall}}
	if k.known {
		c.Asker = module
	}
	outcomes, err := k.s.Do(context.Background(), c)
	if err == nil {
		err = outcomes[len(outcomes)-1].Err
	}
	return err
}

func (k *askingKernel) load(j modload.Job) modload.Result {
	name := j.Module.Name
	for _, q := range k.asks[name] {
		k.mu.Lock()
		k.asking[name] = true
		k.mu.Unlock()
		err := k.upcall(name, q)
		k.mu.Lock()
		k.asking[name] = false
		k.answers[name+">"+q] = err
		k.mu.Unlock()
	}
	return k.Kernel.Load(j)
}

// Requests from init functions: whatever they ask for, the boot goes on, and
// nothing is loaded twice, which the kernel of the test would say.
func TestRequestsOfInitFunctions(t *testing.T) {
	t.Parallel()
	chain, chainAsks, chainLive := new(modloadtest.Index), map[string][]string{}, []string{}
	for i := range 21 {
		name := fmt.Sprintf("c%02d", i)
		chain.Add(name)
		chainLive = append(chainLive, name)
		if i < 20 {
			chainAsks[name] = []string{fmt.Sprintf("c%02d", i+1)}
		}
	}
	tests := []struct {
		name   string
		index  *modloadtest.Index
		alias  map[string][]string
		asks   map[string][]string
		live   []string
		broken []string      // answers that are ErrLoop
		wait   time.Duration // at most, where the asker is not known
	}{
		{
			name: "a module by itself", index: new(modloadtest.Index).Add("a"), asks: map[string][]string{"a": {"a"}},
			live: []string{"a"}, broken: []string{"a>a"}, wait: 2 * time.Second,
		},
		{
			name: "an alias of itself and of a generic module", index: new(modloadtest.Index).Add("a").Add("generic"),
			alias: map[string][]string{"crypto-ecb": {"a", "generic"}}, asks: map[string][]string{"a": {"crypto-ecb"}},
			live: []string{"a", "generic"}, wait: 2 * time.Second,
		},
		{
			name: "a module that depends on the asker", index: new(modloadtest.Index).Add("a").Add("b", "a"),
			asks: map[string][]string{"a": {"b"}}, live: []string{"a", "b"}, broken: []string{"a>b"}, wait: 2 * time.Second,
		},
		{
			name: "a circle through three", index: new(modloadtest.Index).Add("a").Add("b").Add("c", "a"),
			asks: map[string][]string{"a": {"b"}, "b": {"c"}}, live: []string{"a", "b", "c"}, broken: []string{"b>c"}, wait: 2 * time.Second,
		},
		{
			name: "a circle that a soft dependency closes", index: new(modloadtest.Index).Add("a").Add("b").Soft("b", []string{"a"}, nil),
			asks: map[string][]string{"a": {"b"}}, live: []string{"a", "b"}, wait: 2 * time.Second,
		},
		{
			name: "one after the other", index: new(modloadtest.Index).Add("a").Add("b").Add("c"),
			asks: map[string][]string{"a": {"b", "c", "b"}}, live: []string{"a", "b", "c"},
		},
		{name: "a chain of 20", index: chain, asks: chainAsks, live: chainLive},
	}
	for _, tt := range tests {
		tt.index.Aliases = tt.alias
		for _, known := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, asker known %v", tt.name, known), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					begun := time.Now()
					k := newAskingKernel(t, tt.index, known, modload.Options{Workers: 2}, tt.asks)
					first := tt.live[0]
					if err := k.s.Load(t.Context(), first); err != nil {
						t.Errorf("Load(%s): %v", first, err)
					}
					settle(t, k.s)
					took := time.Since(begun)
					if got := k.Live(); !slices.Equal(got, tt.live) {
						t.Errorf("live: %v, want %v", got, tt.live)
					}
					if limit := tt.wait; known && took > 0 || took > limit {
						t.Errorf("took %v, want at most %v", took, limit)
					}
					for question, err := range k.answers {
						if broken := slices.Contains(tt.broken, question); broken != errors.Is(err, modload.ErrLoop) || !broken && known && err != nil {
							t.Errorf("%s: %v, want a broken loop: %v", question, err, broken)
						}
					}
				})
			})
		}
	}
}

// A request of the kernel does not wait for a place among the workers, nor for
// asynchronous probing, nor longer than the kernel's own patience.
func TestUpcallsDoNotQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := new(modloadtest.Index).Add("busy").Add("lib").Add("fs", "lib").Add("hung")
		k := newAskingKernel(t, x, true, modload.Options{Workers: 1}, nil)
		k.Delay("busy", 5*time.Second)
		k.Delay("hung", time.Hour)
		k.s.Request("busy", modload.Origin{Kind: modload.Coldplug})
		k.s.Request("fs", modload.Origin{Kind: modload.Coldplug}) // is queued behind it
		begun := time.Now()
		if err := k.upcall("", "fs"); err != nil || time.Since(begun) > 0 {
			t.Errorf("fs beside a busy worker: %v after %v", err, time.Since(begun))
		}
		if err := k.upcall("", "hung"); !errors.Is(err, modload.ErrOverdue) || time.Since(begun) != modload.DefaultPatience {
			t.Errorf("hung: %v after %v", err, time.Since(begun))
		}
		if err := k.upcall("", "fs"); err != nil {
			t.Errorf("live module: %v", err)
		}
		if err := k.upcall("", "unknown"); !errors.Is(err, modload.ErrNotFound) {
			t.Errorf("unknown module: %v", err)
		}
		c := k.s.Counters()
		if c.Upcalls != 4 || c.UpcallsCoalesced != 2 || c.Overdue != 1 {
			t.Errorf("%+v, want 4 upcalls, 2 of them coalesced, 1 overdue", c)
		}
		time.Sleep(2 * time.Hour)
		settle(t, k.s)
	})
}

// A request for what nobody knows is answered and forgotten: nothing goes on looking whom it may wait for.
func TestUnknownUpcallIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		k := modloadtest.NewKernel(t)
		k.Delay("slow", time.Hour)
		s := modload.New(modload.Options{
			Index: new(modloadtest.Index).Add("slow"), Load: k.Load,
			Asking: func(string) bool { looks++; return false }, // asked about each module that is being inserted
		})
		s.Request("slow", modload.Origin{Kind: modload.Coldplug})
		synctest.Wait()
		if _, err := s.Do(t.Context(), modload.Call{Query: "unknown", Origin: modload.Origin{Kind: modload.Upcall}}); !errors.Is(err, modload.ErrNotFound) {
			t.Errorf("unknown module: %v", err)
		}
		time.Sleep(10 * time.Minute)
		if looks != 0 {
			t.Errorf("%d looks at the kernel for a request that has been answered", looks)
		}
		time.Sleep(time.Hour)
		settle(t, s)
	})
}

// A module is usable for the kernel as soon as its add event has come.
func TestUpcallEndsWithTheAddEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newAskingKernel(t, new(modloadtest.Index).Add("fs"), true, modload.Options{}, nil)
		k.Delay("fs", time.Minute) // asynchronous probing of the machine
		time.AfterFunc(time.Second, func() { k.s.Announce("fs") })
		begun := time.Now()
		if err := k.upcall("", "fs"); err != nil || time.Since(begun) != time.Second {
			t.Errorf("%v after %v, want success after a second", err, time.Since(begun))
		}
		settle(t, k.s)
	})
}

// 200 requests for 20 modules at one instant, beside coldplug: each module once.
func TestManyUpcalls(t *testing.T) {
	t.Parallel()
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			x := new(modloadtest.Index).Add("lib")
			for i := range 20 {
				x.Add(fmt.Sprint("fs", i), "lib")
			}
			k := newAskingKernel(t, x, true, modload.Options{Workers: 2}, nil)
			var wg sync.WaitGroup
			for i := range 200 {
				name := fmt.Sprint("fs", i%20)
				k.Delay(name, time.Duration(i%7)*time.Millisecond)
				wg.Go(func() {
					if err := k.upcall("", name); err != nil {
						t.Error(err)
					}
				})
				wg.Go(func() { k.s.Request(name, modload.Origin{Kind: modload.Coldplug}) })
			}
			wg.Wait()
			settle(t, k.s)
			if n := len(k.Log()); n != 21 {
				t.Errorf("%d calls, want 21", n)
			}
		})
	}
}

// The outcomes are those of the hits, in order; a blacklisted one is left out
// with a reason, and does not keep the others from being loaded.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	x := new(modloadtest.Index).Add("good").Add("bad").Add("listed")
	x.Aliases["all"] = []string{"bad", "listed", "good"}
	k := modloadtest.NewKernel(t)
	k.Fail("bad", refused(unix.ENODEV))
	config := modindex.ParseCmdline("modprobe.blacklist=listed")
	s := modload.New(modload.Options{Index: x, Config: config, Load: k.Load})
	do := func(c modload.Call) string {
		outcomes, err := s.Do(t.Context(), c)
		if err != nil {
			return err.Error()
		}
		var b strings.Builder
		for _, o := range outcomes {
			fmt.Fprintf(&b, "%s %v new=%v blacklisted=%v; ", o.Module, o.State, o.New, errors.Is(o.Err, modload.ErrBlacklisted))
		}
		return b.String()
	}
	for _, tt := range []struct {
		call modload.Call
		want string
	}{
		{modload.Call{Query: "all"}, "bad refused new=true blacklisted=false; listed failed new=false blacklisted=true; good live new=true blacklisted=false; "},
		{modload.Call{Query: "good"}, "good live new=false blacklisted=false; "},
		{modload.Call{Query: "bad"}, "bad refused new=false blacklisted=false; "},
		{modload.Call{Query: "bad", Again: true}, "bad refused new=true blacklisted=false; "},
		{modload.Call{Query: "listed", Blacklist: true}, "listed failed new=false blacklisted=true; "},
		{modload.Call{Query: "listed"}, "listed live new=true blacklisted=false; "},
		{modload.Call{Query: "nothing"}, "load nothing: look up: no such module in the index"},
	} {
		if got := do(tt.call); got != tt.want {
			t.Errorf("%+v\n got %s\nwant %s", tt.call, got, tt.want)
		}
	}
	if n := len(k.Log()); n != 4 {
		t.Errorf("%d calls (%v), want 4", n, k.Log())
	}
}

// A file that is named by its path needs no index, and its parameters and flags
// reach the kernel.
func TestFileByPath(t *testing.T) {
	t.Parallel()
	var jobs []modload.Job
	s := modload.New(modload.Options{Index: new(modloadtest.Index), Load: func(j modload.Job) modload.Result {
		jobs = append(jobs, j)
		return modload.Result{Calls: 1}
	}})
	c := modload.Call{Query: "/tmp/my-mod.ko.xz", Params: "a=1", Flags: unix.MODULE_INIT_IGNORE_VERMAGIC}
	for range 2 {
		if _, err := s.Do(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if len(jobs) != 1 || jobs[0].Module.Name != "my_mod" || jobs[0].Module.Path != c.Query || jobs[0].Params != "a=1" || jobs[0].Flags != c.Flags {
		t.Errorf("loads: %+v", jobs)
	}
}

// What a running init function asks for is served while the Scheduler drains,
// for it could not end otherwise.
func TestDrainServesRunningLoads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := new(modloadtest.Index).Add("a").Add("b").Add("c")
		k := newAskingKernel(t, x, true, modload.Options{}, map[string][]string{"a": {"b"}})
		k.Delay("b", time.Second)
		k.s.Request("a", modload.Origin{Kind: modload.Coldplug})
		synctest.Wait()
		if left := k.s.Drain(t.Context()); len(left) > 0 || !slices.Equal(k.Live(), []string{"a", "b"}) {
			t.Errorf("left %v, live %v", left, k.Live())
		}
		if err := k.upcall("", "c"); !errors.Is(err, modload.ErrDraining) {
			t.Errorf("after the drain: %v", err)
		}
	})
}
