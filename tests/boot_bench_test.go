package tests

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// bootRuns is how often each image is booted. The clock counts instructions, so the runs differ little.
const bootRuns = 3

// aboveFloor is what a boot may cost beyond the kernel's own time.
const aboveFloor = 800 * time.Millisecond

// BenchmarkBoot measures the guest's clock when /sbin/init of an ext4 root on virtio-blk starts, beside a null /init that
// prints the clock: the floor under any init. One CPU, one nanosecond for each instruction.
func BenchmarkBoot(b *testing.B) {
	l, err := openLab()
	if err != nil {
		b.Fatal(err)
	}
	k, err := l.Kernel(b.Context(), lab.Kernels()[0])
	if err != nil {
		b.Fatal(err)
	}
	null, err := l.NullImage(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	universal, err := l.HapaxImage(b.Context(), k, "--mode", "universal")
	if err != nil {
		b.Fatal(err)
	}
	machine := qemu.Machine{
		Kernel: k.Vmlinuz, Icount: true, Disks: []string{rootDisk(b, l, nil).File},
		Append: "console=ttyS0 quiet root=UUID=" + rootUUID,
	}
	for b.Loop() {
		floor := median(b, l, "null", withInitrd(machine, null, " guest_role=null"))
		hapax := median(b, l, "hapax", withInitrd(machine, universal, ""))
		b.ReportMetric(floor.Seconds(), "floor-s")
		b.ReportMetric((hapax - floor).Seconds(), "above-floor-s")
		if hapax-floor > aboveFloor {
			b.Errorf("/sbin/init starts %v above the floor, want at most %v", hapax-floor, aboveFloor)
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "\n%s, median of %d\tguest clock at init\tabove the floor\timage\n", k.Release, bootRuns)
		fmt.Fprintf(w, "null init (the floor)\t%.3f s\t0\t%s\n", floor.Seconds(), fileSize(b, null))
		fmt.Fprintf(w, "hapax, universal\t%.3f s\t%.3f s\t%s\n", hapax.Seconds(), (hapax - floor).Seconds(), fileSize(b, universal))
		if err := w.Flush(); err != nil {
			b.Fatal(err)
		}
	}
}

func withInitrd(m qemu.Machine, image, args string) qemu.Machine {
	m.Initrd, m.Append = image, m.Append+args
	return m
}

// median boots the machine bootRuns times and returns the middle of what the guest program's clock showed.
func median(b *testing.B, l *lab.Lab, name string, m qemu.Machine) time.Duration {
	b.Helper()
	var clocks []time.Duration
	for i := range bootRuns {
		v := vm.Run(b, l.Logs(), vm.Config{Name: fmt.Sprint(name, i), Machine: m})
		var start guest.Start
		if err := guest.Await(v, time.Minute, "start", &start); err != nil {
			b.Fatal(err)
		}
		clocks = append(clocks, start.Clock)
		if err := v.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("%s: %v", name, clocks)
	slices.Sort(clocks)
	return clocks[len(clocks)/2]
}

func fileSize(b *testing.B, file string) string {
	b.Helper()
	info, err := os.Stat(file)
	if err != nil {
		b.Fatal(err)
	}
	return fmt.Sprintf("%.1f MB", float64(info.Size())/1e6)
}
