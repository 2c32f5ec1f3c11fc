package modload_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/modload"
	"hapax/modload/modloadtest"
)

func accept(modload.Job) modload.Result { return modload.Result{Calls: 1} }

// A request for an alias that was resolved before: the price of each of the
// thousands that add nothing.
func BenchmarkRequestCoalesced(b *testing.B) {
	for _, kind := range []modload.Kind{modload.Coldplug, modload.Uevent} {
		b.Run(kind.String(), func(b *testing.B) {
			x := virtio()
			s := modload.New(modload.Options{Index: x, Load: accept})
			o := modload.Origin{Kind: kind, By: "/devices/pci0000:00/0000:00:01.0"}
			s.Request("virtio:d2", o)
			if err := s.Settle(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					s.Request("virtio:d2", o)
				}
			})
		})
	}
}

// A whole table of modules from the first request to settled, with a kernel
// that takes no time: what the scheduler itself costs per module.
func BenchmarkLoadAll(b *testing.B) {
	for _, n := range []int{100, 5000} {
		b.Run(fmt.Sprint("modules=", n), func(b *testing.B) {
			x := new(modloadtest.Index)
			for i := range n {
				var deps []string
				for d := i / 2; d > 0 && len(deps) < 6; d /= 2 {
					deps = append([]string{fmt.Sprint("m", d)}, deps...)
				}
				x.Add(fmt.Sprint("m", i), deps...)
				x.Aliases["all"] = append(x.Aliases["all"], fmt.Sprint("m", i))
			}
			b.ReportAllocs()
			for b.Loop() {
				s := modload.New(modload.Options{Index: x, Load: accept})
				s.Request("all", modload.Origin{})
				if err := s.Settle(b.Context()); err != nil {
					b.Fatal(err)
				}
				if c := s.Counters(); c.Live != n {
					b.Fatalf("%d modules live, want %d", c.Live, n)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/module")
		})
	}
}

// The machine of TestMakespan in real time: 5,000 modules whose init functions sleep, a worker for each, and 100,000
// requests from 64 goroutines while they load, which is the makespan: from the first request to settled, beside the
// longest chain of dependencies. What is above 1 is the work for all these requests and the lateness of timers. Then come
// 100,000 more, with nothing beside them: ns/coalesced is the processor time for each.
func BenchmarkScheduler(b *testing.B) {
	const requests = 100_000
	w := newWorkload(b, 5000)
	n, critical := len(w.index.Modules), w.criticalPath()
	load := func(j modload.Job) modload.Result {
		time.Sleep(latency(j.Module.Name))
		return modload.Result{Calls: 1}
	}
	for _, kind := range []modload.Kind{modload.Coldplug, modload.Uevent} {
		b.Run(kind.String(), func(b *testing.B) {
			var busy, makespan time.Duration
			for b.Loop() {
				s := modload.New(modload.Options{Index: w.index, Load: load, Workers: n})
				begun := time.Now()
				w.storm(s, requests, kind)
				if err := s.Settle(b.Context()); err != nil {
					b.Fatal(err)
				}
				makespan += time.Since(begun)

				before, used := s.Counters(), processorTime(b)
				w.storm(s, requests, kind)
				busy += processorTime(b) - used
				after := s.Counters()
				if got := after.Coalesced - before.Coalesced; got != requests {
					b.Fatalf("%d of %d requests were coalesced", got, requests)
				}
				if after.Live != n || after.Finit != n {
					b.Fatalf("%d modules live after %d calls, want %d", after.Live, after.Finit, n)
				}
			}
			b.ReportMetric(float64(busy)/float64(b.N*requests), "ns/coalesced")
			b.ReportMetric(float64(makespan)/float64(b.N)/float64(critical), "makespan/critical")
			b.ReportMetric(0, "ns/op") // the sleep of the init functions
		})
	}
}

// processorTime is what this process has used so far.
func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
