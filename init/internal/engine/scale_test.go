package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/handoff"
	"hapax/modload"
	"hapax/modload/modloadtest"
	"hapax/uevent"
)

// A size is what a machine has much of.
type size struct{ cpus, devices int }

func (s size) String() string { return fmt.Sprintf("cpus=%d/devices=%d", s.cpus, s.devices) }

// Machines of any size have devices of so many models. Each model has a module of its own, on top of one for its bus; the
// processors have some that are theirs.
const (
	models = 500
	buses  = 100
	perCPU = 12
)

// scaleModules is how many modules a machine of the given size needs.
func scaleModules(s size) int { return min(s.devices, models) + min(s.devices, buses) + perCPU }

const cpuAlias = "cpu:type:x86,ven0000fam0006mod008F:feature:,0000,0001,0002,0003,0004,0005,0006,0007,0008,0009,000B,000C,000D,000E"

// scaleTree makes a sysfs, in memory where that can be had: a folder for each device and each processor.
func scaleTree(tb testing.TB, s size) string {
	tb.Helper()
	root, err := os.MkdirTemp("/dev/shm", "engine-")
	if err != nil {
		root = tb.TempDir()
	}
	tb.Cleanup(func() { os.RemoveAll(root) })
	put := func(dir, file, text string) {
		dir = filepath.Join(root, "devices", dir)
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	for i := range s.devices {
		put(fmt.Sprintf("pci%02x/%05x", i%buses, i), "uevent", "PCI_CLASS=20000\nMODALIAS="+modelAlias(i%models)+"\n")
	}
	put("system/cpu", "modalias", cpuAlias+"\n")
	for i := range s.cpus {
		put(fmt.Sprintf("system/cpu/cpu%d", i), "uevent", "DRIVER=processor\nMODALIAS="+cpuAlias+"\n")
	}
	return root
}

func modelAlias(model int) string {
	return fmt.Sprintf("pci:v00008086d%08Xsv00000000sd00000000bc02sc00i00", model)
}

// scaleIndex knows the modules for all models and for the processors.
func scaleIndex() *modloadtest.Index {
	x := new(modloadtest.Index)
	for i := range buses {
		x.Add(fmt.Sprint("bus", i))
	}
	for i := range models {
		name := fmt.Sprint("model", i)
		x.Add(name, fmt.Sprint("bus", i%buses))
		x.Aliases[modelAlias(i)] = []string{name}
	}
	for i := range perCPU {
		x.Add(fmt.Sprint("cpu", i))
		x.Aliases[cpuAlias] = append(x.Aliases[cpuAlias], fmt.Sprint("cpu", i))
	}
	return x
}

// A parade is a uevent socket over which each processor is announced once it has been let loose.
type parade struct {
	loose chan struct{}
	cpus  int
	sent  int
}

func (p *parade) Receive() (uevent.Event, error) {
	<-p.loose
	if p.sent == p.cpus {
		return uevent.Event{}, os.ErrClosed
	}
	p.sent++
	path := fmt.Sprint("/devices/system/cpu/cpu", p.sent-1)
	return uevent.Parse(fmt.Appendf(nil, "add@%s\x00ACTION=add\x00DEVPATH=%s\x00SUBSYSTEM=cpu\x00MODALIAS=%s\x00SEQNUM=%d\x00",
		path, path, cpuAlias, p.sent))
}

func (p *parade) Stats() uevent.Stats { return uevent.Stats{} }

// A scale is a whole engine on a machine of some size.
type scale struct {
	*engine
	guard  *handoff.Peer
	kernel *modloadtest.Kernel
	parade *parade
	seq    atomic.Uint64
	status chan int
}

func newScale(tb testing.TB, s size, sysfs string) *scale {
	tb.Helper()
	guard, end, err := handoff.Pair()
	if err != nil {
		tb.Fatal(err)
	}
	defer end.Close()
	fd, err := unix.Dup(int(end.Fd()))
	if err != nil {
		tb.Fatal(err)
	}
	m := &scale{
		engine: newEngine(), guard: guard, kernel: modloadtest.NewKernel(tb),
		parade: &parade{make(chan struct{}), s.cpus, 0}, status: make(chan int, 1),
	}
	if m.engine.link, err = handoff.Inherited(fd); err != nil {
		tb.Fatal(err)
	}
	m.engine.params = cmdline.Parse("hapax.timeout=infinity")
	m.engine.conn, m.engine.seqnum, m.engine.sysfs = m.parade, m.seq.Load, sysfs
	m.engine.reportPath = filepath.Join(tb.TempDir(), "boot.json")
	x := scaleIndex()
	m.engine.modules = &modules{index: x, sched: modload.New(modload.Options{
		Index: x, Load: m.kernel.Load, Idle: func() { poke(m.nudge) },
	})}
	return m
}

// coldplug lets the engine run until it has settled for the first time.
func (m *scale) coldplug(tb testing.TB) {
	tb.Helper()
	go func() {
		m.begin()
		m.status <- m.loop()
	}()
	if got, err := m.guard.Receive(); err != nil || got.Verb != handoff.Settled {
		tb.Fatalf("the engine says %+v, %v; want %s", got, err, handoff.Settled)
	}
}

// hotplug has each processor announced, and returns when the last event has been handled.
func (m *scale) hotplug() {
	m.seq.Store(uint64(m.parade.cpus))
	close(m.parade.loose)
	for m.lastSeq.Load() < uint64(m.parade.cpus) || m.modules.busy() {
		time.Sleep(20 * time.Microsecond)
	}
}

// leave ends the engine.
func (m *scale) leave(tb testing.TB) {
	tb.Helper()
	if err := m.guard.Send(handoff.Message{Verb: handoff.Drain}); err != nil {
		tb.Fatal(err)
	}
	if got, err := m.guard.Receive(); err != nil || got.Verb != handoff.Done {
		tb.Fatalf("the engine says %+v, %v; want %s", got, err, handoff.Done)
	}
	if status := <-m.status; status != 0 {
		tb.Errorf("exit status %d", status)
	}
	if err := m.guard.Close(); err != nil {
		tb.Error(err)
	}
}

// check holds that each module was inserted once and has one place in the table. The kernel itself fails the test for a
// module that it is given twice.
func (m *scale) check(tb testing.TB, s size) {
	tb.Helper()
	want := scaleModules(s)
	if table, inserted := len(m.modules.sched.Modules()), len(m.kernel.Log()); table != want || inserted != want {
		tb.Errorf("%v: %d modules in the table, %d inserted, want %d", s, table, inserted, want)
	}
	if c := m.modules.sched.Counters(); c.Finit != want || c.Live != want || c.Duplicates != 0 {
		tb.Errorf("%v: %+v, want %d calls and as many live modules", s, c, want)
	}
}

// A cost is what a machine took of this process.
type cost struct {
	walk, events time.Duration
	allocs       uint64 // while the devices were walked and the events handled
	kept         int64  // bytes of the heap that are in use after that, less those before
}

// measure takes an engine through a coldplug and the arrival of all processors.
func measure(tb testing.TB, s size, sysfs string) cost {
	tb.Helper()
	var before, after, kept runtime.MemStats
	m := newScale(tb, s, sysfs)
	runtime.GC()
	runtime.ReadMemStats(&before)
	begin := time.Now()
	m.coldplug(tb)
	walked := time.Now()
	m.hotplug()
	done := time.Now()
	runtime.ReadMemStats(&after)
	runtime.GC()
	runtime.ReadMemStats(&kept)
	m.check(tb, s)
	m.leave(tb)
	return cost{walked.Sub(begin), done.Sub(walked), after.Mallocs - before.Mallocs, int64(kept.HeapAlloc) - int64(before.HeapAlloc)}
}

// A machine of four times the processors and devices needs the same modules, and no more memory to keep. Not parallel: it
// measures the memory of the process.
func TestScale(t *testing.T) {
	small, large := size{512, 2_000}, size{2_048, 8_000}
	a := measure(t, small, scaleTree(t, small))
	b := measure(t, large, scaleTree(t, large))
	perSmall, perLarge := float64(a.allocs)/float64(small.cpus+small.devices), float64(b.allocs)/float64(large.cpus+large.devices)
	if perLarge > perSmall {
		t.Errorf("%v: %.1f allocations for each device and processor, %v: %.1f", small, perSmall, large, perLarge)
	}
	const most = 4 << 20
	if a.kept > most || b.kept > most || b.kept > 2*max(a.kept, 256<<10) {
		t.Errorf("%v keeps %d bytes, %v keeps %d", small, a.kept, large, b.kept)
	}
	t.Logf("%v: %.1f allocations each, %d KiB kept; %v: %.1f, %d KiB", small, perSmall, a.kept>>10, large, perLarge, b.kept>>10)
}

// BenchmarkScale shows that the price of a device and of a processor does not depend on how many there are. The walk reads
// one alias for all processors; their events come one by one.
func BenchmarkScale(b *testing.B) {
	for _, s := range []size{{255, 10_000}, {1_024, 10_000}, {4_096, 10_000}, {16_384, 10_000}, {255, 100_000}, {16_384, 100_000}} {
		b.Run(s.String(), func(b *testing.B) {
			sysfs := scaleTree(b, s)
			var sum cost
			for b.Loop() {
				c := measure(b, s, sysfs)
				sum.walk, sum.events, sum.allocs, sum.kept = sum.walk+c.walk, sum.events+c.events, sum.allocs+c.allocs, max(sum.kept, c.kept)
			}
			n := float64(b.N)
			b.ReportMetric(float64(sum.walk.Nanoseconds())/n/float64(s.devices), "ns/device")
			b.ReportMetric(float64(sum.events.Nanoseconds())/n/float64(s.cpus), "ns/cpu-event")
			b.ReportMetric(float64(sum.allocs)/n/float64(s.devices+s.cpus), "allocs/each")
			b.ReportMetric(float64(sum.kept)/1024, "KiB-kept")
			b.ReportMetric(float64(scaleModules(s)), "modules")
		})
	}
}
