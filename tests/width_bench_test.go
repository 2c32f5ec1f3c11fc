package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// widths are the numbers of loads at one time that BenchmarkWidth compares.
func widths() []int { return []int{1, 2, 4, 8, 16, 32, 64} }

// A widthMachine is a machine that the widths are compared on.
type widthMachine struct {
	kernel string // of lab.Kernels
	cpus   int
	memory int // MiB
	icount bool
	runs   int
}

// widthMachines returns them. One thread of the host runs all processors of a guest in turn, so that these gain nothing
// by working at one time: what is left to be seen are waits that overlap and the price of crowding. A clock that counts
// instructions shows both without the host's noise, but with more than one processor a boot under it takes too long.
func widthMachines() []widthMachine {
	return []widthMachine{
		{kernel: "6.1", cpus: 1, memory: 2048, icount: true, runs: 1},
		{kernel: "6.1-cloud", cpus: 8, memory: 2048, runs: 3},
		{kernel: "6.1-cloud", cpus: 64, memory: 4096, runs: 3},
	}
}

func (m widthMachine) String() string {
	clock := "host's clock"
	if m.icount {
		clock = "counted clock"
	}
	return fmt.Sprintf("%s, %d vCPUs, %s", m.kernel, m.cpus, clock)
}

// BenchmarkWidth boots an image of all modules with each width and reports the time from the engine's start until
// everything that the devices of the machine ask for is loaded. docs/bench-loading.md has the table that DefaultWorkers
// was chosen by.
func BenchmarkWidth(b *testing.B) {
	l, err := openLab()
	if err != nil {
		b.Fatal(err)
	}
	for _, m := range widthMachines() {
		b.Run(fmt.Sprintf("kernel=%s/cpus=%d", m.kernel, m.cpus), func(b *testing.B) {
			for b.Loop() {
				if err := compareWidths(b, l, m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// compareWidths prints the table of one machine.
func compareWidths(b *testing.B, l *lab.Lab, m widthMachine) error {
	spec := lab.Kernels()[slices.IndexFunc(lab.Kernels(), func(s lab.KernelSpec) bool { return s.Name == m.kernel })]
	k, err := l.Kernel(b.Context(), spec)
	if err != nil {
		return err
	}
	image, err := l.HapaxImage(b.Context(), k, "--mode", "all", "--compression", "none")
	if err != nil {
		return err
	}
	machine := matrix(spec, k)
	machine.CPUs, machine.MemoryMiB, machine.Icount = m.cpus, m.memory, m.icount

	// The widths take turns, so that a busy spell of the host meets all of them.
	settled := map[int][]time.Duration{}
	for range m.runs {
		for _, n := range widths() {
			d, live, err := settleTime(b, l, withInitrd(machine, image, fmt.Sprint(" ", widthArgs, n)))
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "width: %v, hapax.workers=%d: %d modules live after %v\n", m, n, live, d)
			settled[n] = append(settled[n], d)
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\n%v\tmedian of %d\tall\n", m, m.runs)
	for _, n := range widths() {
		slices.Sort(settled[n])
		mid := settled[n][m.runs/2]
		b.ReportMetric(mid.Seconds(), fmt.Sprintf("s/width=%d", n))
		fmt.Fprintf(w, "hapax.workers=%d\t%.3f s\t%v\n", n, mid.Seconds(), settled[n])
	}
	return w.Flush()
}

// widthArgs keep a guest of many processors from being busy with itself.
const widthArgs = bootArgs + "tsc=reliable lpj=10000000 rcupdate.rcu_expedited=1 hapax.report=console hapax.workers="

// settleTime boots the machine and returns the time until it was settled and the number of modules that were live then.
func settleTime(b *testing.B, l *lab.Lab, m qemu.Machine) (d time.Duration, live int, err error) {
	v := vm.Run(b, l.Logs(), vm.Config{Name: "width", Machine: m, Limit: 10 * time.Minute})
	line, err := v.WaitLine(10*time.Minute, "hapax-report: {")
	if err != nil {
		return 0, 0, err
	}
	var r struct {
		Live     int     `json:"live"`
		SettleMS float64 `json:"settle_ms"`
	}
	_, text, _ := strings.Cut(line, "hapax-report: ")
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return 0, 0, fmt.Errorf("%w: %s", err, line)
	}
	return time.Duration(r.SettleMS * float64(time.Millisecond)), r.Live, v.Close()
}
