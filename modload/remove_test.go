package modload_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hapax/modload"
	"hapax/modload/modindex"
	"hapax/modload/modloadtest"
)

func TestRemove(t *testing.T) {
	t.Parallel()
	x := new(modloadtest.Index).Add("lib").Add("net", "lib").Add("other")
	x.Modules["ext4"] = modindex.Module{Name: "ext4", Builtin: true}
	k := modloadtest.NewKernel(t)
	k.Put("old")
	k.Put("stranger")
	s := modload.New(modload.Options{Index: x, Load: k.Load, Unload: k.Unload, Present: []string{"old"}})
	load := func(name string) {
		t.Helper()
		if err := s.Load(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	load("net")
	for _, tt := range []struct {
		name string
		want error
	}{
		{"lib", modload.ErrInUse}, {"net", nil}, {"net", modload.ErrNotLoaded}, {"lib", nil}, {"other", modload.ErrNotLoaded},
		{"ext4", modload.ErrBuiltin}, {"old", nil}, {"stranger", nil}, {"nowhere", modload.ErrNotLoaded},
	} {
		if err := s.Remove(t.Context(), tt.name, 0); !errors.Is(err, tt.want) {
			t.Errorf("Remove(%s): %v, want %v", tt.name, err, tt.want)
		}
	}
	load("net")
	if got := k.Live(); !slices.Equal(got, []string{"lib", "net"}) {
		t.Errorf("live: %v", got)
	}
	if c := s.Counters(); c.Removed != 4 || c.Live != 4 {
		t.Errorf("%+v, want 4 removed and 4 live", c)
	}
}

// A load and a removal of one module do not overlap, whichever comes first.
func TestRemoveAndLoadTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := modloadtest.NewKernel(t)
		k.Delay("m", time.Second)
		s := modload.New(modload.Options{Index: new(modloadtest.Index).Add("m").Add("user", "m"), Load: k.Load, Unload: k.Unload})
		removed := make(chan error)
		s.Request("m", modload.Origin{Kind: modload.Coldplug})
		synctest.Wait()
		go func() { removed <- s.Remove(t.Context(), "m", 0) }() // waits for the load
		time.Sleep(1500 * time.Millisecond)                      // the removal has begun
		begun := time.Now()
		if err := s.Load(t.Context(), "user"); err != nil { // waits for the removal, and loads m again
			t.Error(err)
		}
		if err := <-removed; err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took != 1500*time.Millisecond {
			t.Errorf("took %v, want the rest of the removal and a load", took)
		}
		if log := k.Log(); !slices.Equal(log, []string{"m", "m", "user"}) {
			t.Errorf("calls: %v", log)
		}
		// A dependant that is on its way keeps what it needs.
		if err := s.Remove(t.Context(), "user", 0); err != nil {
			t.Error(err)
		}
		k.Delay("user", time.Second)
		s.Request("user", modload.Origin{Kind: modload.Coldplug})
		synctest.Wait()
		if err := s.Remove(t.Context(), "m", 0); !errors.Is(err, modload.ErrInUse) {
			t.Errorf("Remove below a load: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := s.Remove(ctx, "user", 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Remove of what is loading: %v", err)
		}
		settle(t, s)
	})
}

// Requests and removals from many goroutines: the kernel of the test fails it
// if a module is inserted while it is there or without what it needs, or
// removed while it is being inserted, and all of it ends.
func TestAnyInterleavingWithRemovals(t *testing.T) {
	t.Parallel()
	rounds := 500
	if testing.Short() {
		rounds = 50
	}
	for seed := range uint64(rounds) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			w := newWorld(r)
			k := modloadtest.NewKernel(t)
			for _, name := range w.names {
				k.Fail(name, w.errs[name])
				k.Delay(name, time.Duration(r.IntN(4))*time.Millisecond)
			}
			s := modload.New(modload.Options{Index: w.index, Load: k.Load, Unload: k.Unload, Workers: 1 + r.IntN(6)})
			var wg sync.WaitGroup
			for range 2 + r.IntN(8) {
				g := rand.New(rand.NewPCG(seed, r.Uint64()))
				wg.Go(func() { disturb(t, g, w, s) })
			}
			wg.Wait()
			settle(t, s)
			var live []string
			for name, st := range states(s) {
				if st == "live" {
					live = append(live, name)
				}
			}
			slices.Sort(live)
			if got := k.Live(); !slices.Equal(live, got) {
				t.Errorf("seed %d: the table has %v live, the kernel %v", seed, live, got)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// disturb is one goroutine of TestAnyInterleavingWithRemovals.
func disturb(t *testing.T, r *rand.Rand, w world, s *modload.Scheduler) {
	for range 1 + r.IntN(12) {
		time.Sleep(time.Duration(r.IntN(4)) * time.Millisecond)
		name, alias := w.names[r.IntN(len(w.names))], w.alias[r.IntN(len(w.alias))]
		switch r.IntN(6) {
		case 0:
			s.Request(alias, modload.Origin{Kind: modload.Uevent, By: "/devices/u"})
		case 1:
			_, _ = s.Do(t.Context(), modload.Call{Query: alias, Origin: modload.Origin{Kind: modload.Upcall}})
		case 2:
			_, _ = s.Do(t.Context(), modload.Call{Query: name, Again: true})
		case 3:
			s.Reload(w.index, modindex.ParseCmdline(fmt.Sprint("hapax.deny=", name)), nil)
		default:
			_ = s.Remove(t.Context(), name, 0)
		}
	}
}
