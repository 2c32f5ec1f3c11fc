package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// upcallLaps is how many requests the benchmark makes of each helper.
const upcallLaps = 41

// BenchmarkUpcall measures what a request of the kernel for a module that is live costs its maker: a helper is started, finds
// that out, and ends. hapax's helper and Debian's modprobe do it in the same guest. One CPU, one nanosecond for each
// instruction.
func BenchmarkUpcall(b *testing.B) {
	l, err := openLab()
	if err != nil {
		b.Fatal(err)
	}
	k, err := l.Kernel(b.Context(), lab.Kernels()[0])
	if err != nil {
		b.Fatal(err)
	}
	image := filepath.Join(b.TempDir(), "kmod.img")
	if err := l.WithKmod(b.Context(), image, upcallImage(b, l, k, "")); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		v := vm.Run(b, l.Logs(), vm.Config{Limit: 5 * time.Minute, Machine: qemu.Machine{
			Kernel: k.Vmlinuz, Icount: true, Initrd: image, Append: bootArgs + "quiet",
		}})
		c := guest.Client{Console: v}
		if _, err := v.WaitLine(2*time.Minute, guest.Ready); err != nil {
			b.Fatal(err)
		}
		const sysctl = "/proc/sys/kernel/modprobe"
		act := opens(10)
		hapax := lapTimes(b, c, act)
		if err := c.Ask(guest.Write, sysctl+" /sbin/modprobe", nil); err != nil {
			b.Fatal(err)
		}
		kmod := lapTimes(b, c, act)
		b.ReportMetric(hapax.Seconds()*1e3, "hapax-ms")
		b.ReportMetric(kmod.Seconds()*1e3, "kmod-ms")
		if 2*hapax > kmod {
			b.Errorf("a request takes %v by hapax and %v by Debian's modprobe, want at most half", hapax, kmod)
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "\n%s, median of %d\tfrom the request to the answer\n", k.Release, upcallLaps)
		fmt.Fprintf(w, "hapax\t%.3f ms\nDebian's modprobe\t%.3f ms\n", hapax.Seconds()*1e3, kmod.Seconds()*1e3)
		if err := w.Flush(); err != nil {
			b.Fatal(err)
		}
		if err := v.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// lapTimes returns the median of what the act takes. The first one loads the module, if it is not there.
func lapTimes(b *testing.B, c guest.Client, act string) time.Duration {
	b.Helper()
	var laps []time.Duration
	if err := c.Ask(guest.Laps, fmt.Sprint(upcallLaps+1, " ", act), &laps); err != nil {
		b.Fatal(err)
	}
	laps = laps[1:]
	slices.Sort(laps)
	return laps[len(laps)/2]
}
