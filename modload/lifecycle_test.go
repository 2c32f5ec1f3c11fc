package modload_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"hapax/modload"
	"hapax/modload/modindex"
	"hapax/modload/modloadtest"
)

func TestWorkersBoundTheLoads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x, k := new(modloadtest.Index), modloadtest.NewKernel(t)
		for i := range 200 {
			name := fmt.Sprint("m", i)
			x.Add(name)
			x.Aliases["all"] = append(x.Aliases["all"], name)
			k.Delay(name, time.Second)
		}
		s := modload.New(modload.Options{Index: x, Load: k.Load, Workers: 5})
		start := time.Now()
		s.Request("all", modload.Origin{})
		settle(t, s)
		if k.Peak() != 5 {
			t.Errorf("%d loads at one time, want 5", k.Peak())
		}
		if d := time.Since(start); d != 40*time.Second {
			t.Errorf("200 loads of 1s, 5 at a time, took %v", d)
		}
	})
}

// What the root needs goes before the rest, with its dependencies, also when
// those were queued among the rest before.
func TestStorageGoesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := new(modloadtest.Index).Add("running").Add("c1").Add("c2").Add("lib").Add("nvme", "lib").Add("c3").Add("named")
		nvme := x.Modules["nvme"]
		nvme.Path = "kernel/drivers/nvme/host/nvme.ko.xz"
		x.Modules["nvme"] = nvme
		x.Aliases["cpu"] = []string{"c1", "c2", "lib", "c3", "named"}
		x.Aliases["pci"] = []string{"nvme"}
		k := modloadtest.NewKernel(t)
		k.Delay("running", time.Second)
		s := modload.New(modload.Options{Index: x, Load: k.Load, Workers: 1})
		s.Request("running", modload.Origin{})
		synctest.Wait()
		s.Request("cpu", modload.Origin{})
		s.Request("pci", modload.Origin{})
		go func() { _ = s.Load(t.Context(), "named") }()
		synctest.Wait()
		settle(t, s)
		if diff := cmp.Diff([]string{"running", "lib", "named", "nvme", "c1", "c2", "c3"}, k.Log()); diff != "" {
			t.Errorf("inserted (-want +got):\n%s", diff)
		}
	})
}

// Init functions that never return are reported, with who asked, and take
// nobody's place; Drain still knows them.
func TestHungModulesAreReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x, k := new(modloadtest.Index).Add("good").Add("user", "hung1"), modloadtest.NewKernel(t)
		for i := range 3 {
			name := fmt.Sprint("hung", i)
			x.Add(name)
			x.Aliases["pci"] = append(x.Aliases["pci"], name)
			k.Delay(name, 24*time.Hour)
		}
		var mu sync.Mutex
		var slow []string
		s := modload.New(modload.Options{Index: x, Load: k.Load, Workers: 2, Slow: func(m modload.Module) {
			mu.Lock()
			defer mu.Unlock()
			slow = append(slow, fmt.Sprint(m.Name, " ", m.State, " for ", m.Origin.By))
		}})
		start := time.Now()
		s.Request("pci", modload.Origin{Kind: modload.Uevent, By: "/devices/x"})
		s.Request("user", modload.Origin{})
		synctest.Wait()
		// Both places are taken; 10 s later they are free again, and so on.
		if err := s.Load(t.Context(), "good"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("the good module waited %v", d)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		slices.Sort(slow)
		want := []string{"hung0 inserting for /devices/x", "hung1 inserting for /devices/x", "hung2 inserting for /devices/x"}
		if diff := cmp.Diff(want, slow); diff != "" {
			t.Errorf("reported (-want +got):\n%s", diff)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if running := s.Drain(ctx); len(running) != 3 {
			t.Errorf("Drain left %v, want the three hung ones", running)
		}
		if running := s.Drain(t.Context()); running != nil {
			t.Errorf("Drain left %v", running)
		}
	})
}

func TestDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := modloadtest.NewKernel(t)
		k.Delay("virtio", time.Minute)
		s := modload.New(modload.Options{Index: virtio(), Load: k.Load})
		s.Request("virtio:d2", modload.Origin{})
		synctest.Wait()
		waiter := make(chan error, 1)
		go func() { waiter <- s.Load(t.Context(), "virtio_net") }()
		synctest.Wait()

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if diff := cmp.Diff([]string{"virtio"}, s.Drain(ctx)); diff != "" {
			t.Errorf("still running (-want +got):\n%s", diff)
		}
		if err := <-waiter; !errors.Is(err, modload.ErrDraining) {
			t.Errorf("waiting Load = %v, want ErrDraining", err)
		}
		s.Request("virtio:d1", modload.Origin{})
		if err := s.Load(t.Context(), "virtio_blk"); !errors.Is(err, modload.ErrDraining) {
			t.Errorf("later Load = %v, want ErrDraining", err)
		}
		if running := s.Drain(t.Context()); running != nil {
			t.Errorf("second Drain left %v", running)
		}
		log := k.Log()
		slices.Sort(log)
		if diff := cmp.Diff([]string{"failover", "net_failover", "virtio"}, log); diff != "" {
			t.Errorf("inserted (-want +got):\n%s", diff)
		}
		c := s.Counters()
		if c.Abandoned != 3 || c.Failed != 0 || c.Live != 3 {
			t.Errorf("counters = %+v", c)
		}
	})
}

// An index whose look-up takes long, as one on a slow disk may.
type slowIndex struct {
	*modloadtest.Index
	delay time.Duration
}

func (x slowIndex) Lookup(query string) modindex.Hits {
	time.Sleep(x.delay)
	return x.Index.Lookup(query)
}

// A request that is being looked up when Drain comes starts nothing.
func TestDrainDuringLookup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := modloadtest.NewKernel(t)
		s := modload.New(modload.Options{Index: slowIndex{virtio(), time.Second}, Load: k.Load})
		go s.Request("virtio:d2", modload.Origin{})
		go func() {
			if err := s.Load(t.Context(), "virtio"); !errors.Is(err, modload.ErrDraining) {
				t.Errorf("Load = %v, want ErrDraining", err)
			}
		}()
		synctest.Wait()
		if running := s.Drain(t.Context()); running != nil {
			t.Errorf("Drain left %v", running)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if log := k.Log(); len(log) != 0 {
			t.Errorf("inserted %v after Drain", log)
		}
	})
}

func TestLoadStopsWaitingWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := modloadtest.NewKernel(t)
		k.Delay("virtio", time.Hour)
		s := modload.New(modload.Options{Index: virtio(), Load: k.Load})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Load(ctx, "virtio"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Load = %v", err)
		}
		if err := s.Settle(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Settle = %v", err)
		}
		settle(t, s)
	})
}

func TestCallbacks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var ended []string
		idle := 0
		k := modloadtest.NewKernel(t)
		s := modload.New(modload.Options{
			Index: virtio(), Load: k.Load, Workers: 1,
			Ended: func(m modload.Module) {
				mu.Lock()
				defer mu.Unlock()
				ended = append(ended, m.Name+" "+m.State.String())
			},
			Idle: func() {
				mu.Lock()
				defer mu.Unlock()
				idle++
			},
		})
		s.Request("virtio:d2", modload.Origin{})
		synctest.Wait()
		if diff := cmp.Diff([]string{"virtio live", "virtio_ring live", "virtio_blk live"}, ended); diff != "" {
			t.Errorf("Ended (-want +got):\n%s", diff)
		}
		s.Request("virtio:d2", modload.Origin{})
		synctest.Wait()
		if idle != 1 {
			t.Errorf("Idle was called %d times, want 1", idle)
		}
	})
}
