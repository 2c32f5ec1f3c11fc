package modload_test

import (
	"fmt"
	"testing"

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
