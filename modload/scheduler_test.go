package modload_test

import (
	"errors"
	"fmt"
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

// virtio is the usual small graph: a diamond with a shared bottom.
func virtio() *modloadtest.Index {
	x := new(modloadtest.Index).
		Add("virtio").
		Add("virtio_ring", "virtio").
		Add("virtio_blk", "virtio", "virtio_ring").
		Add("virtio_net", "virtio", "virtio_ring", "net_failover").
		Add("net_failover", "failover").
		Add("failover")
	x.Aliases["virtio:d2"] = []string{"virtio_blk"}
	x.Aliases["virtio:d1"] = []string{"virtio_net"}
	x.Aliases["both"] = []string{"virtio_net", "virtio_blk"}
	return x
}

func refused(errno unix.Errno) error {
	return &modload.LoadError{Module: "m", Op: "finit_module", Err: fmt.Errorf("%w: %w", modload.ErrRefused, errno)}
}

func states(s *modload.Scheduler) map[string]string {
	m := map[string]string{}
	for _, r := range s.Modules() {
		m[r.Name] = r.State.String()
	}
	return m
}

func TestDiamondIsLoadedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := modloadtest.NewKernel(t)
		k.Delay("virtio", time.Second)
		s := modload.New(modload.Options{Index: virtio(), Load: k.Load, Workers: 8})
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				s.Request([]string{"virtio:d1", "virtio:d2", "both"}[i%3], modload.Origin{Kind: modload.Coldplug})
			})
		}
		wg.Wait()
		if err := s.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		log := k.Log()
		slices.Sort(log)
		want := []string{"failover", "net_failover", "virtio", "virtio_blk", "virtio_net", "virtio_ring"}
		if diff := cmp.Diff(want, log); diff != "" {
			t.Errorf("inserted (-want +got):\n%s", diff)
		}
		c := s.Counters()
		if c.Requests != 100 || c.Finit != 6 || c.Live != 6 || c.Duplicates != 0 {
			t.Errorf("counters = %+v", c)
		}
	})
}

// A dependency that is slow holds its dependants and nobody else.
func TestSlowDependencyHoldsOnlyItsDependants(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := modloadtest.NewKernel(t)
		x := virtio().Add("loop")
		k.Delay("virtio_ring", 40*time.Second)
		s := modload.New(modload.Options{Index: x, Load: k.Load, Workers: 2})
		s.Request("virtio:d2", modload.Origin{Kind: modload.Coldplug})
		synctest.Wait()
		start := time.Now()
		if err := s.Load(t.Context(), "loop"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("loop waited %v for a module that it does not need", d)
		}
		if err := s.Load(t.Context(), "virtio-blk"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 40*time.Second {
			t.Errorf("virtio_blk came after %v, want 40s", d)
		}
	})
}

// The kernel tells of a live module before finit_module returns: dependants
// start then, and those that come later do not wait either.
func TestAnnouncedModuleReleasesItsDependants(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := modloadtest.NewKernel(t)
		x := new(modloadtest.Index).Add("ahci").Add("user", "ahci").Add("later", "ahci").Add("soft").
			Soft("soft", []string{"ahci"}, nil)
		k.Delay("ahci", time.Hour)
		s := modload.New(modload.Options{Index: x, Load: k.Load, Workers: 2})
		start := time.Now()
		go func() { _ = s.Load(t.Context(), "user") }()
		synctest.Wait()
		s.Announce("user") // not yet handed to the kernel: means nothing
		s.Announce("unknown")
		k.Put("ahci")
		s.Announce("ahci")
		s.Announce("ahci")
		for _, name := range []string{"user", "later", "soft"} {
			if err := s.Load(t.Context(), name); err != nil {
				t.Error(err)
			}
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("the dependants waited %v", d)
		}
		if s.Pending() != 1 {
			t.Errorf("%d modules pending, want 1: its call has not returned", s.Pending())
		}
		settle(t, s)
	})
}

func TestFailedDependencyCostsNoCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := modloadtest.NewKernel(t)
		k.Fail("virtio", &modload.LoadError{Module: "virtio", Op: "finit_module", Err: unix.ENOEXEC})
		s := modload.New(modload.Options{Index: virtio(), Load: k.Load})
		err := s.Load(t.Context(), "virtio_net")
		if !errors.Is(err, unix.ENOEXEC) {
			t.Errorf("Load = %v, want ENOEXEC", err)
		}
		if got, want := fmt.Sprint(err), "load virtio_net: dependency virtio: exec format error"; got != want {
			t.Errorf("error = %q, want %q", got, want)
		}
		s.Request("virtio:d2", modload.Origin{Kind: modload.Uevent, By: "/devices/a"})
		if err := s.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"virtio": "failed", "virtio_ring": "failed", "virtio_net": "failed", "virtio_blk": "failed",
			"net_failover": "live", "failover": "live",
		}
		if diff := cmp.Diff(want, states(s)); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if c := s.Counters(); c.Finit != 3 || c.Failed != 4 {
			t.Errorf("counters = %+v, want 3 calls and 4 failed", c)
		}
	})
}

// A module that refused is asked again for a new device, once for all devices
// that arrive together, and never for those of the pass in which it refused.
func TestRefusedIsRetriedOncePerPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := modloadtest.NewKernel(t)
		x := new(modloadtest.Index).Add("cpufreq").Add("user", "cpufreq")
		x.Aliases["acpi:CPU"] = []string{"cpufreq"}
		x.Aliases["acpi:USER"] = []string{"user"}
		k.Fail("cpufreq", refused(unix.ENODEV))
		k.Delay("cpufreq", time.Millisecond)
		s := modload.New(modload.Options{Index: x, Load: k.Load})

		for i := range 1024 {
			s.Request("acpi:CPU", modload.Origin{Kind: modload.Uevent, By: fmt.Sprint("/devices/cpu", i)})
		}
		s.Request("acpi:USER", modload.Origin{Kind: modload.Coldplug})
		settle(t, s)
		if got := len(k.Log()); got != 1 {
			t.Fatalf("%d calls in the first pass, want 1", got)
		}
		if diff := cmp.Diff(map[string]string{"cpufreq": "refused", "user": "failed"}, states(s)); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}

		for i := range 16 {
			s.Request("acpi:CPU", modload.Origin{Kind: modload.Uevent, By: fmt.Sprint("/devices/new", i)})
		}
		settle(t, s)
		if got := len(k.Log()); got != 2 {
			t.Fatalf("%d calls after new devices, want 2", got)
		}
		s.Request("acpi:CPU", modload.Origin{Kind: modload.Coldplug})
		settle(t, s)
		if got := len(k.Log()); got != 2 {
			t.Fatalf("%d calls after another walk, want 2", got)
		}

		// The dependant failed because of the refusal, so it comes back with it.
		k.Fail("cpufreq", nil)
		s.Request("acpi:USER", modload.Origin{Kind: modload.Uevent, By: "/devices/last"})
		settle(t, s)
		if diff := cmp.Diff(map[string]string{"cpufreq": "live", "user": "live"}, states(s)); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if c := s.Counters(); c.Live != 2 || c.Refused != 0 || c.Failed != 0 || c.Finit != 4 || c.Retried != 3 {
			t.Errorf("counters = %+v", c)
		}
	})
}

func settle(t *testing.T, s *modload.Scheduler) {
	t.Helper()
	if err := s.Settle(t.Context()); err != nil {
		t.Fatalf("Settle: %v", err)
	}
}

func TestSoftdeps(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		index *modloadtest.Index
		load  string
		fail  string
		log   []string
		err   bool
	}{
		{
			name:  "pre before, post after",
			index: new(modloadtest.Index).Add("m").Add("a").Add("b").Soft("m", []string{"a"}, []string{"b"}),
			load:  "m", log: []string{"a", "m", "b"},
		},
		{
			name:  "pre that fails is no obstacle",
			index: new(modloadtest.Index).Add("m").Add("a").Soft("m", []string{"a"}, nil),
			load:  "m", fail: "a", log: []string{"a", "m"},
		},
		{
			name:  "no post of a module that failed",
			index: new(modloadtest.Index).Add("m").Add("b").Soft("m", nil, []string{"b"}),
			load:  "m", fail: "m", log: []string{"m"}, err: true,
		},
		{
			name:  "unknown words are skipped",
			index: new(modloadtest.Index).Add("m").Soft("m", []string{"nothing"}, []string{"nobody"}),
			load:  "m", log: []string{"m"},
		},
		{
			name:  "itself",
			index: new(modloadtest.Index).Add("a").Soft("a", []string{"a"}, []string{"a"}),
			load:  "a", log: []string{"a"},
		},
		{
			name:  "each other",
			index: new(modloadtest.Index).Add("a").Add("b").Soft("a", []string{"b"}, nil).Soft("b", []string{"a"}, nil),
			load:  "a", log: []string{"b", "a"},
		},
		{
			name:  "a circle of one hard and one soft edge keeps the hard one",
			index: new(modloadtest.Index).Add("b").Add("a", "b").Soft("b", []string{"a"}, nil),
			load:  "b", log: []string{"b", "a"},
		},
		{
			name:  "post of a dependency that is the dependant",
			index: new(modloadtest.Index).Add("b").Add("a", "b").Soft("b", nil, []string{"a"}),
			load:  "a", log: []string{"b", "a"},
		},
		{
			name: "a long circle through an alias",
			index: func() *modloadtest.Index {
				x := new(modloadtest.Index).Add("a").Add("b").Add("c")
				x.Aliases["crypto-c"] = []string{"c", "b"}
				return x.Soft("a", []string{"b"}, nil).Soft("b", []string{"crypto-c"}, nil).Soft("c", []string{"a"}, nil)
			}(),
			load: "a", log: []string{"c", "b", "a"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := modloadtest.NewKernel(t)
				if tt.fail != "" {
					k.Fail(tt.fail, unix.EINVAL)
				}
				s := modload.New(modload.Options{Index: tt.index, Load: k.Load})
				if err := s.Load(t.Context(), tt.load); (err != nil) != tt.err {
					t.Errorf("Load = %v, want error %v", err, tt.err)
				}
				settle(t, s)
				if diff := cmp.Diff(tt.log, k.Log()); diff != "" {
					t.Errorf("inserted (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// No index that depmod writes has such circles; a hostile one may.
func TestHardCyclesFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := modloadtest.NewKernel(t)
		x := new(modloadtest.Index).Add("a", "b").Add("b", "a").Add("self", "self").Add("top", "a")
		s := modload.New(modload.Options{Index: x, Load: k.Load})
		for _, name := range []string{"a", "self", "top", "b"} {
			if err := s.Load(t.Context(), name); !errors.Is(err, modload.ErrCycle) {
				t.Errorf("Load(%s) = %v, want ErrCycle", name, err)
			}
		}
		settle(t, s)
		if log := k.Log(); len(log) != 0 {
			t.Errorf("inserted %v", log)
		}
	})
}
