package modload_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/modload"
	"hapax/modload/modindex"
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

func TestConfig(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := modindex.ParseCmdline("quiet modprobe.blacklist=virtio-net,loop module_blacklist=floppy virtio_blk.num_request_queues=2 virtio_blk.x")
		x := virtio().Add("loop").Add("floppy").Add("needs_floppy", "floppy").Add("needs_loop", "loop")
		x.Aliases["block-major-7"] = []string{"loop"}
		x.Aliases["fd"] = []string{"needs_floppy"}
		k := modloadtest.NewKernel(t)
		k.Put("virtio")
		k.Put("virtio_ring")
		s := modload.New(modload.Options{Index: x, Config: cfg, Load: k.Load, Present: []string{"virtio", "virtio-ring"}})
		s.Request("both", modload.Origin{Kind: modload.Coldplug})
		if err := s.Load(t.Context(), "block-major-7"); err != nil {
			t.Errorf("a blacklisted module reached by an alias gave %v, want no error and no load", err)
		}
		settle(t, s)
		if diff := cmp.Diff([]string{"virtio_blk"}, k.Log()); diff != "" {
			t.Errorf("inserted (-want +got):\n%s", diff)
		}
		if got, want := k.Params("virtio_blk"), "num_request_queues=2 x"; got != want {
			t.Errorf("parameters = %q, want %q", got, want)
		}
		if err := s.Load(t.Context(), "needs_loop"); err != nil {
			t.Errorf("a blacklisted dependency gave %v", err)
		}
		if err := s.Load(t.Context(), "loop"); err != nil {
			t.Errorf("a blacklisted module by its own name gave %v", err)
		}
		for _, query := range []string{"floppy", "fd"} {
			if err := s.Load(t.Context(), query); !errors.Is(err, modload.ErrDenied) {
				t.Errorf("Load(%s) = %v, want ErrDenied", query, err)
			}
		}
		if log := k.Log(); slices.Contains(log, "floppy") || slices.Contains(log, "needs_floppy") || slices.Contains(log, "virtio") {
			t.Errorf("inserted %v", log)
		}
	})
}

// What is denied is loaded for nobody, and its dependants fail with the reason;
// a module with an install command is not loaded behind the command's back.
func TestDenyAndInstall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		conf := "deny usb-storage\ninstall net_pf_* /bin/false\noptions disk a=1\noptions scsi:d0 b=2\n"
		if err := os.WriteFile(filepath.Join(dir, "local.conf"), []byte(conf), 0o644); err != nil {
			t.Fatal(err)
		}
		cfg, problems := modindex.ReadConfig([]string{dir}, "hapax.deny=floppy")
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		x := new(modloadtest.Index).Add("usb_storage").Add("uas", "usb_storage").Add("floppy").Add("disk").Add("net_pf_9")
		pf := x.Modules["net_pf_9"]
		pf.Install = "/bin/false"
		x.Modules["net_pf_9"] = pf
		x.Aliases["usb:1"] = []string{"usb_storage", "uas"}
		x.Aliases["scsi:d0"] = []string{"disk"}
		k := modloadtest.NewKernel(t)
		s := modload.New(modload.Options{
			Index: x, Config: cfg, Load: k.Load,
			Params: func(name, query string) string { return cfg.Options(name, query) },
		})
		s.Request("usb:1", modload.Origin{})
		s.Request("scsi:d0", modload.Origin{})
		for name, want := range map[string]error{
			"usb_storage": modload.ErrDenied, "uas": modload.ErrDenied, "floppy": modload.ErrDenied, "net_pf_9": modload.ErrInstall,
		} {
			if err := s.Load(t.Context(), name); !errors.Is(err, want) {
				t.Errorf("Load(%s) = %v, want %v", name, err, want)
			}
		}
		settle(t, s)
		if diff := cmp.Diff([]string{"disk"}, k.Log()); diff != "" {
			t.Errorf("inserted (-want +got):\n%s", diff)
		}
		if err := s.Load(t.Context(), "uas"); !strings.Contains(fmt.Sprint(err), "local.conf:1") {
			t.Errorf("error %q does not say where it is denied", err)
		}
		if got := k.Params("disk"); got != "a=1 b=2" {
			t.Errorf("parameters = %q", got)
		}
	})
}

func TestBuiltinNeedsNoCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := modloadtest.NewKernel(t)
		x := new(modloadtest.Index).Add("ext4").Add("overlay", "ext4")
		x.Modules["ext4"] = modindex.Module{Name: "ext4", Builtin: true}
		x.Aliases["fs-ext4"] = []string{"ext4"}
		k.Put("ext4")
		s := modload.New(modload.Options{Index: x, Load: k.Load})
		for _, query := range []string{"fs-ext4", "ext4", "overlay"} {
			if err := s.Load(t.Context(), query); err != nil {
				t.Errorf("Load(%s) = %v", query, err)
			}
		}
		if diff := cmp.Diff([]string{"overlay"}, k.Log()); diff != "" {
			t.Errorf("inserted (-want +got):\n%s", diff)
		}
		if c := s.Counters(); c.Live != 1 || c.Requests != 3 || c.Coalesced != 1 {
			t.Errorf("counters = %+v", c)
		}
	})
}

func TestUnknownNames(t *testing.T) {
	t.Parallel()
	k := modloadtest.NewKernel(t)
	s := modload.New(modload.Options{Index: virtio(), Load: k.Load})
	if err := s.Load(t.Context(), "fs-nothing"); !errors.Is(err, modload.ErrNotFound) {
		t.Errorf("Load = %v, want ErrNotFound", err)
	}
	s.Request("pci:v1", modload.Origin{})
	s.Request("pci:v1", modload.Origin{})
	if c := s.Counters(); c.Unmatched != 2 || c.Requests != 3 || c.Coalesced != 1 {
		t.Errorf("counters = %+v", c)
	}
}

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
