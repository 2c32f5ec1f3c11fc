package engine

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/handoff"
	"hapax/init/internal/report"
	"hapax/modload"
	"hapax/modload/modloadtest"
	"hapax/uevent"
)

// A script is a uevent socket that gives what the test sends it.
type script struct {
	feed chan any // uevent.Event or error
}

func (s *script) Receive() (uevent.Event, error) {
	switch v := (<-s.feed).(type) {
	case uevent.Event:
		return v, nil
	case error:
		return uevent.Event{}, v
	}
	return uevent.Event{}, os.ErrClosed
}

func (s *script) Stats() uevent.Stats { return uevent.Stats{} }

func (s *script) send(t *testing.T, msg string) {
	t.Helper()
	ev, err := uevent.Parse([]byte(strings.ReplaceAll(msg, "|", "\x00")))
	if err != nil {
		t.Fatal(err)
	}
	s.feed <- ev
}

// A bench runs a whole engine on a made-up machine.
type bench struct {
	*engine
	*script
	guard  *handoff.Peer
	kernel *modloadtest.Kernel
	seq    atomic.Uint64
	ended  sync.WaitGroup
	status int
}

func newBench(t *testing.T, line string) *bench {
	t.Helper()
	guard, end, err := handoff.Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(end.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	end.Close()
	b := &bench{engine: newEngine(), script: &script{make(chan any, 16)}, guard: guard, kernel: modloadtest.NewKernel(t)}
	if b.engine.link, err = handoff.Inherited(fd); err != nil {
		t.Fatal(err)
	}
	b.engine.params = cmdline.Parse(line)
	b.engine.conn = b.script
	b.engine.seqnum = b.seq.Load
	b.engine.sysfs = t.TempDir()
	b.engine.reportPath = filepath.Join(t.TempDir(), "boot.json")
	x := new(modloadtest.Index).Add("virtio").Add("virtio_blk", "virtio").Add("nvme").Add("lost")
	for alias, name := range map[string]string{"virtio:2": "virtio_blk", "pci:nvme": "nvme", "pci:lost": "lost"} {
		x.Aliases[alias] = []string{name}
	}
	b.modules = &modules{index: x, sched: modload.New(modload.Options{
		Index: x, Load: b.kernel.Load, Idle: func() { poke(b.nudge) },
	})}
	b.device(t, "a", "virtio:2")
	return b
}

// device makes a device appear in sysfs.
func (b *bench) device(t *testing.T, name, alias string) {
	t.Helper()
	dir := filepath.Join(b.sysfs, "devices", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"uevent": "MODALIAS=" + alias + "\n", "modalias": alias + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *bench) run() {
	b.ended.Go(func() {
		b.begin()
		b.status = b.loop()
	})
}

func (b *bench) hear(t *testing.T, want handoff.Verb) handoff.Message {
	t.Helper()
	m, err := b.guard.Receive()
	if err != nil || m.Verb != want {
		t.Fatalf("the engine says %+v, %v; want %s", m, err, want)
	}
	return m
}

// leave drains the engine and returns its report.
func (b *bench) leave(t *testing.T) report.Boot {
	t.Helper()
	if err := b.guard.Send(handoff.Message{Verb: handoff.Drain}); err != nil {
		t.Fatal(err)
	}
	b.hear(t, handoff.Done)
	b.ended.Wait()
	if b.status != 0 {
		t.Errorf("exit status %d", b.status)
	}
	data, err := os.ReadFile(b.reportPath)
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		report.Boot
		Modules []struct{ Name string } `json:"modules"`
	}
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r.Boot
}

// The engine has not settled while the kernel has counted an event that it has
// not handled, and not while a module that came with it is on its way.
func TestSettledIsAFact(t *testing.T) {
	t.Parallel()
	b := newBench(t, "")
	b.seq.Store(7)
	b.begin()
	<-b.walked
	b.walkEnded(nil)
	if err := b.modules.sched.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !b.isSettled() {
		t.Fatal("not settled with nothing left to do")
	}
	b.seq.Store(8) // an event is on its way
	if b.isSettled() {
		t.Error("settled before the last event was handled")
	}
	b.kernel.Delay("nvme", 5*time.Second)
	b.send(t, "add@/devices/n|ACTION=add|DEVPATH=/devices/n|SUBSYSTEM=pci|MODALIAS=pci:nvme|SEQNUM=8|")
	for b.lastSeq.Load() < 8 {
		<-b.nudge
	}
	if b.isSettled() {
		t.Error("settled while a module is being inserted")
	}
}

// Events that the kernel dropped are made good by another walk.
func TestOverrunWalksAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, "hapax.drain=infinity")
	b.run()
	b.hear(t, handoff.Settled)
	b.device(t, "late", "pci:lost") // its event is among the dropped ones
	b.feed <- uevent.ErrOverrun
	if err := await(func() bool { return len(b.kernel.Log()) == 3 }); err != nil {
		t.Fatalf("inserted %v: %v", b.kernel.Log(), err)
	}
	r := b.leave(t)
	if diff := cmp.Diff([]string{"virtio", "virtio_blk", "lost"}, b.kernel.Log()); diff != "" {
		t.Errorf("inserted (-want +got):\n%s", diff)
	}
	if r.Live != 3 || r.Finit != 3 || r.Devices != 2 {
		t.Errorf("report = %+v", r.Summary)
	}
}

// Only add events load modules; that of a module releases its dependants.
func TestEventsThatLoad(t *testing.T) {
	t.Parallel()
	b := newBench(t, "hapax.drain=infinity")
	b.run()
	b.hear(t, handoff.Settled)
	for i, action := range []string{"bind", "change", "unbind", "remove", "online"} {
		b.seq.Store(uint64(i + 1))
		b.send(t, action+"@/devices/n|ACTION="+action+"|DEVPATH=/devices/n|SUBSYSTEM=pci|MODALIAS=pci:nvme|SEQNUM="+string(rune('1'+i))+"|")
	}
	b.send(t, "add@/devices/m|ACTION=add|DEVPATH=/devices/m|SUBSYSTEM=pci|MODALIAS=pci:lost|SEQNUM=9|")
	if err := await(func() bool { return len(b.kernel.Log()) == 3 }); err != nil {
		t.Fatalf("inserted %v: %v", b.kernel.Log(), err)
	}
	if r := b.leave(t); r.Live != 3 || r.Events != 6 {
		t.Errorf("report = %+v, want 3 modules live after 6 events", r.Summary)
	}
	if diff := cmp.Diff([]string{"virtio", "virtio_blk", "lost"}, b.kernel.Log()); diff != "" {
		t.Errorf("inserted (-want +got):\n%s", diff)
	}
}

// A module that hangs keeps neither the report nor the shell from a person.
func TestHungModuleDoesNotHoldTheShell(t *testing.T) {
	t.Parallel()
	b := newBench(t, "hapax.timeout=50ms hapax.drain=0")
	b.kernel.Delay("virtio", 5*time.Second)
	b.run()
	b.hear(t, handoff.Settled)
	if r := b.leave(t); r.SettleMS != 0 || r.Finit != 0 {
		t.Errorf("report = %+v, want one that has not settled", r.Summary)
	}
}

// await polls for what another goroutine is about to do.
func await(done func() bool) error {
	for range 2000 {
		if done() {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return errors.New("it did not happen within 10 s")
}
