package tests

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"text/tabwriter"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// bootRuns is how often each image is booted. The clock counts instructions, so the runs differ little.
const bootRuns = 3

// A contender is an image of the bench.
type contender struct {
	name  string
	image func() (string, error)
	args  string        // on the kernel command line
	limit time.Duration // of what it may cost beyond the kernel's own time; 0: it is only measured
}

// contenders are the images that are compared. The first is the floor under any init.
func contenders(b *testing.B, l *lab.Lab, k debian.Kernel) []contender {
	ctx := b.Context()
	hapax := func(flags ...string) func() (string, error) {
		return func() (string, error) { return l.HapaxImage(ctx, k, flags...) }
	}
	peer := func(name string) func() (string, error) {
		return func() (string, error) { return l.PeerImage(ctx, k, name) }
	}
	return []contender{
		{"null init (the floor)", func() (string, error) { return l.NullImage(ctx) }, " guest_role=null", 0},
		{"hapax, universal", hapax("--mode", "universal"), "", 400 * time.Millisecond},
		{"hapax, this machine's modules", hapax("--mode", "custom", "--modules", "virtio_pci,virtio_blk,ext4"), "", 200 * time.Millisecond},
		{"initramfs-tools, MODULES=most", peer("initramfs-tools"), "", 0},
		{"dracut, no hostonly", peer("dracut"), "", 0},
	}
}

// BenchmarkBoot measures the guest's clock when /sbin/init of an ext4 root on virtio-blk starts, by hapax and by what Debian
// has for that, beside a null /init that prints the clock. One CPU, one nanosecond for each instruction.
func BenchmarkBoot(b *testing.B) {
	l, err := openLab()
	if err != nil {
		b.Fatal(err)
	}
	k, err := l.Kernel(b.Context(), lab.Kernels()[0])
	if err != nil {
		b.Fatal(err)
	}
	// A guest that sleeps while the host reads for its disk wakes up at its next timer, which may be minutes away on a clock
	// that counts instructions. One that polls counts on.
	machine := qemu.Machine{
		Kernel: k.Vmlinuz, Icount: true, Disks: []string{rootDisk(b, l, benchRoot(b, l)).File},
		Append: "console=ttyS0 quiet idle=poll root=UUID=" + rootUUID,
	}
	for b.Loop() {
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
		fmt.Fprintf(w, "\n| %s, median of %d\t| at init\t| above the floor\t| image\t|\n|-\t|-\t|-\t|-\t|\n", k.Release, bootRuns)
		var floor time.Duration
		var shares []string
		for _, c := range contenders(b, l, k) {
			image, err := c.image()
			if err != nil {
				b.Fatal(err)
			}
			boot := median(b, l, c, withInitrd(machine, image, c.args))
			if floor == 0 {
				floor = boot.start
			}
			above := boot.start - floor
			fmt.Fprintf(w, "| %s\t| %.2f s\t| %.2f s\t| %s\t|\n", c.name, boot.start.Seconds(), above.Seconds(), fileSize(b, image))
			if c.limit == 0 {
				continue
			}
			b.ReportMetric(above.Seconds(), "above-floor-s")
			if above > c.limit {
				b.Errorf("%s: /sbin/init starts %v above the floor, want at most %v", c.name, above, c.limit)
			}
			shares = append(shares, boot.shares(c.name))
		}
		if err := w.Flush(); err != nil {
			b.Fatal(err)
		}
		for _, s := range shares {
			fmt.Print(s)
		}
	}
}

func withInitrd(m qemu.Machine, image, args string) qemu.Machine {
	m.Initrd, m.Append = image, m.Append+args
	return m
}

// benchRoot fills the root with what every contender wants to see before it takes it for one.
func benchRoot(b *testing.B, l *lab.Lab) func(root string) error {
	return func(root string) error {
		const release = "etc/os-release"
		return errors.Join(
			os.MkdirAll(filepath.Join(root, "etc"), 0o755),
			os.WriteFile(filepath.Join(root, release), []byte("ID=hapax-test\n"), 0o644),
			l.InstallGuest(b.Context(), filepath.Join(root, "sbin/init")))
	}
}

// A boot is one run: when the root's init started, and, of hapax, what it says about itself and what the kernel says.
type boot struct {
	start  time.Duration
	report report
	log    string
}

// median boots the machine bootRuns times and returns the run in the middle.
func median(b *testing.B, l *lab.Lab, c contender, m qemu.Machine) boot {
	b.Helper()
	const patience = 8 * time.Minute
	var boots []boot
	for i := range bootRuns {
		v := vm.Run(b, l.Logs(), vm.Config{Name: fmt.Sprint(c.name, i), Machine: m, Limit: patience})
		var start guest.Start
		if err := guest.Await(v, patience, "start", &start); err != nil {
			b.Fatal(err)
		}
		run := boot{start: start.Clock}
		if c.limit != 0 {
			if _, err := v.WaitLine(patience, guest.Ready); err != nil {
				b.Fatal(err)
			}
			console := guest.Client{Console: v}
			if err := errors.Join(console.Ask(guest.Report, "", &run.report), console.Ask(guest.Dmesg, "", &run.log)); err != nil {
				b.Fatal(err)
			}
		}
		boots = append(boots, run)
		if err := v.Close(); err != nil {
			b.Fatal(err)
		}
	}
	slices.SortFunc(boots, func(x, y boot) int { return int(x.start - y.start) })
	b.Logf("%s: %.3f to %.3f s", c.name, boots[0].start.Seconds(), boots[len(boots)-1].start.Seconds())
	return boots[len(boots)/2]
}

// shares returns a table of where hapax's time goes, in the order of the boot. The first two rows are the kernel's.
func (r boot) shares(name string) string {
	clock := r.report.Clock
	last := 0.0 // end of the last module's init function that the root waited for
	for _, m := range r.report.Modules {
		if end := clock.Engine + m.Ended; m.Ended > 0 && end < clock.Found {
			last = max(last, end)
		}
	}
	marks := []struct {
		what string
		at   float64 // in ms, when it was over
	}{
		{"(before)", r.stamp("Trying to unpack rootfs image")},
		{"unpack", r.stamp("Freeing initrd memory")},
		{"(kernel)", r.stamp("Run /init as init process")},
		{"runtime start, guard and engine", clock.Engine},
		{"index", clock.Index},
		{"loads", last},
		{"probe", clock.Found},
		{"mount", clock.Mounted},
		{"drain and report", clock.Handover},
		{"switch_root and exec", float64(r.start.Microseconds()) / 1000},
	}
	table := fmt.Sprintf("\n| %s: where the time goes | ms |\n|-|-|\n", name)
	for i, m := range marks[1:] {
		table += fmt.Sprintf("| %s | %.1f |\n", m.what, m.at-marks[i].at)
	}
	return table
}

// stamp returns the time of the first line of the kernel's log with that text, in ms.
func (r boot) stamp(text string) float64 {
	m := regexp.MustCompile(`\[ *([0-9.]+)\] ` + regexp.QuoteMeta(text)).FindStringSubmatch(r.log)
	if m == nil {
		return 0
	}
	s, err := strconv.ParseFloat(m[1], 64)
	if err != nil { // the kernel prints no other numbers
		return 0
	}
	return s * 1000
}

func fileSize(b *testing.B, file string) string {
	b.Helper()
	info, err := os.Stat(file)
	if err != nil {
		b.Fatal(err)
	}
	return fmt.Sprintf("%.1f MB", float64(info.Size())/1e6)
}
