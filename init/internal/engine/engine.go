// Package engine is the child of PID 1 that does what may fail: it listens to
// uevents, walks sysfs, has modules loaded through the one Scheduler, finds
// and mounts the root, and writes the boot report.
//
// It may die at any time; the guard starts it again. The new one seeds its
// table from /proc/modules and walks sysfs, so nothing is loaded twice.
//
// # Flow
//
//	uevent.Conn ──> receive ──┬─ MODALIAS ──> Scheduler ──> kernel
//	coldplug.Walk ────────────┤
//	                          └─ block ──> hunt: probe, match, mount
//	loop: settled? root? time-out? the guard's answer?
//
// The loop owns the engine's state. Receiving, walking, probing and mounting
// happen in goroutines of their own, because each of them can block in the
// kernel, and reach the loop through channels.
package engine

import (
	"context"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hapax/coldplug"
	"hapax/init/internal/cmdline"
	"hapax/init/internal/control"
	"hapax/init/internal/fault"
	"hapax/init/internal/handoff"
	"hapax/init/internal/klog"
	"hapax/init/internal/report"
	"hapax/init/internal/slim"
	"hapax/modload"
	"hapax/uevent"
)

// seqGap is how long the engine waits for a uevent that the kernel has counted
// but not delivered before it takes it for one of another network namespace.
const seqGap = 500 * time.Millisecond

type engine struct {
	cmdline string
	params  *cmdline.Params
	log     *klog.Logger
	link    *handoff.Peer
	release string

	// The outside, which tests replace.
	conn       source        // nil if there is no socket
	seqnum     func() uint64 // SEQNUM of the last uevent that the kernel has sent
	sysfs      string
	reportPath string
	console    *klog.Ring // standard output, which may hang

	modules  *modules
	blocks   *blocks
	hunt     *hunt           // nil without root=
	control  *control.Server // nil if there is no socket
	unserved unserved
	watchers watchers
	barred   sync.Once // it was said that the kernel lets no module in

	stopControl func() // ends control

	lastSeq atomic.Uint64 // highest SEQNUM handled
	events  atomic.Uint64
	devices atomic.Uint64 // reported by the last complete walk

	nudge  chan struct{} // something changed: look whether all is settled
	rescan chan struct{} // uevents were lost: walk again
	ended  chan struct{} // a module's load has ended
	walked chan error
	orders chan handoff.Verb

	settling chan chan struct{} // who waits for everything to be settled
	isQuiet  atomic.Bool        // settled, for those outside of the loop

	// Owned by the loop.
	announced bool // the report's line is on the console
	walking   bool
	walkAgain bool
	settled   bool
	reported  report.Summary // what the file says, but for Events
	gap       <-chan time.Time
	gapAt     uint64           // SEQNUM for which gap runs
	gapFrom   uint64           // lastSeq when it began
	patience  <-chan time.Time // without root=: fires when the shell is due, settled or not
	clock     report.Clock
	waiting   []chan struct{} // of settling
	leaving   bool
}

// A source is what the engine needs of a uevent.Conn.
type source interface {
	Receive() (uevent.Event, error)
	Stats() uevent.Stats
}

func newEngine() *engine {
	return &engine{
		seqnum:     readSeqnum,
		sysfs:      "/sys",
		reportPath: report.Path,
		console:    newConsole(),
		nudge:      make(chan struct{}, 1),
		rescan:     make(chan struct{}, 1),
		ended:      make(chan struct{}, 1),
		walked:     make(chan error, 1),
		orders:     make(chan handoff.Verb, 1),
		settling:   make(chan chan struct{}),
	}
}

// Run is the whole life of the engine; fd is its end of the handoff line. The
// result is the exit status.
func Run(fd int) int {
	e := newEngine()
	e.clock.Engine = report.Now()
	slim.Start()
	fault.At("start")
	raw, err := os.ReadFile("/proc/cmdline")
	e.cmdline = string(raw)
	e.params = cmdline.Parse(e.cmdline)
	e.log = klog.Open(e.params.LogLevel)
	if err != nil {
		e.log.Errorf("no kernel command line: %v", err)
	}
	if e.link, err = handoff.Inherited(fd); err != nil {
		e.log.Errorf("engine: %v", err)
		return 1
	}
	if conn, err := uevent.Listen(); err == nil {
		e.conn = conn
	} else {
		// Without uevents a later device is missed, but not one that is there.
		e.log.Errorf("%v", err)
	}
	fault.At("listen")
	var problem error
	e.modules, problem = openModules(e)
	e.clock.Index = report.Now()
	fault.At("index")
	e.openControl()
	fault.At("control")
	if problem != nil {
		e.tell(handoff.Rescue, problem.Error())
	} else if e.params.Root != "" && os.Getenv("HAPAX_NOROOT") == "" {
		e.startHunt()
	}
	fault.At("hunt")
	e.watchBlocks()
	go e.watchPower()
	e.begin()
	return e.loop()
}

// begin sets everything in motion that feeds the loop. The uevent socket is
// bound by now: what the walk does not see, the socket does.
func (e *engine) begin() {
	fault.At("begin")
	e.lastSeq.Store(e.seqnum())
	if e.conn != nil {
		go e.receive()
	}
	go e.obey()
	e.modules.requestConfigured(e.params.LoadModules, e.log.Warnf)
	e.walk(modload.Coldplug)
	go e.makeNodes()
	if e.hunt == nil {
		if e.params.Timeout != cmdline.Forever {
			e.patience = time.After(e.params.Timeout)
		}
		go e.loopbackUp()
	}
}

// loop is the one owner of the engine's state.
func (e *engine) loop() int {
	for {
		select {
		case <-e.nudge:
		case err := <-e.walked:
			e.walkEnded(err)
		case <-e.rescan:
			// What the walk finds may be the device of a lost event.
			e.walk(modload.Uevent)
		case <-e.gap:
			e.gap = nil
			// If the receiver has moved on it is only slow: wait again.
			if e.lastSeq.CompareAndSwap(e.gapFrom, e.gapAt) {
				e.log.Debugf("uevent %d went to another network namespace", e.gapAt)
			}
		case <-e.patience:
			e.unsettled()
		case r := <-e.hunt.results():
			e.rootEnded(r)
		case <-e.hunt.deadline():
			e.rootOverdue()
		case c := <-e.settling:
			e.waiting = append(e.waiting, c)
		case order := <-e.orders:
			if e.obeyed(order) {
				return 0
			}
		}
		e.checkSettled()
	}
}

// receive handles uevents until the socket closes.
func (e *engine) receive() {
	for {
		ev, err := e.conn.Receive()
		switch {
		case err == nil:
			e.handle(&ev)
		case err == uevent.ErrOverrun:
			e.log.Warnf("the kernel dropped uevents: walking sysfs again")
			poke(e.rescan)
		default:
			e.log.Errorf("%v", err)
			return
		}
	}
}

// handle acts on one event. Modules are requested for devices that are added
// and for nothing else: a driver that is unbound must not come back at once.
func (e *engine) handle(ev *uevent.Event) {
	fault.At("event")
	e.events.Add(1)
	if ev.Action == uevent.Add {
		for _, alias := range ev.Vars("MODALIAS") {
			e.modules.request(alias, modload.Origin{Kind: modload.Uevent, By: ev.DevPath})
		}
		e.blocks.added(ev)
	}
	switch {
	case ev.Subsystem == "block":
		e.blocks.event(ev)
	case ev.Subsystem == "virtio":
		e.hunt.virtio(ev)
	case ev.Subsystem == "module" && ev.Action == uevent.Add:
		e.modules.sched.Announce(strings.TrimPrefix(ev.DevPath, "/module/"))
	}
	for {
		seen := e.lastSeq.Load()
		if ev.Seqnum <= seen || e.lastSeq.CompareAndSwap(seen, ev.Seqnum) {
			break
		}
	}
	poke(e.nudge)
}

// walk starts a sysfs walk, or plans another for when the running one ends. It
// asks for modules as kind does.
func (e *engine) walk(kind modload.Kind) {
	if e.walking {
		e.walkAgain = true
		return
	}
	e.walking = true
	go func() {
		stats, err := coldplug.Walk(context.Background(), e.sysfs, func(d coldplug.Device) {
			fault.At("device")
			for _, alias := range d.Modaliases {
				e.modules.request(alias, modload.Origin{Kind: kind, By: d.DevPath})
			}
			if d.Block != nil {
				e.blocks.found(d.DevPath, d.Block)
			}
		})
		e.devices.Store(uint64(stats.Reported))
		e.walked <- err
	}()
}

func (e *engine) walkEnded(err error) {
	fault.At("walked")
	if err != nil {
		e.log.Errorf("%v", err)
	}
	if e.clock.Walked == 0 {
		e.clock.Walked = report.Now()
	}
	e.walking = false
	e.hunt.kick()
	if e.walkAgain {
		e.walkAgain = false
		e.walk(modload.Uevent)
	}
}

// isSettled reports whether nothing is left to do: the walk is over, the last
// uevent that the kernel counted is handled, and no module is on its way.
func (e *engine) isSettled() bool {
	if e.walking || len(e.rescan) > 0 || e.modules.busy() || e.leaving {
		return false
	}
	seq := e.seqnum()
	if seen := e.lastSeq.Load(); seen < seq && e.conn != nil {
		if e.gap == nil || e.gapAt != seq {
			e.gapAt, e.gapFrom, e.gap = seq, seen, time.After(seqGap)
		}
		return false
	}
	// A load that ended between the two looks may have made a device.
	if e.modules.busy() || e.seqnum() != seq {
		poke(e.nudge)
		return false
	}
	e.gap = nil
	return true
}

// checkSettled writes the report when all is settled and something has changed
// since the last time, and tells the guard the first time.
func (e *engine) checkSettled() {
	quiet := e.isSettled()
	e.isQuiet.Store(quiet)
	if !quiet {
		return
	}
	for _, c := range e.waiting {
		close(c)
	}
	e.waiting = nil
	first := !e.settled
	e.settled = true
	now := e.summary()
	now.Events = e.reported.Events // events alone, such as a drive's media checks, are no news
	if !first && now == e.reported {
		return
	}
	e.reported = now
	if first {
		fault.At("settled")
		e.linksDue()
		e.clock.Settled = report.Now()
		c := e.modules.sched.Counters()
		e.log.Infof("settled after %.3f s: %d modules live, %d refused, %d failed",
			(e.clock.Settled-e.clock.Engine)/1000, c.Live, c.Refused, c.Failed)
	}
	e.writeReport()
	if first && e.hunt == nil {
		e.announce()
		e.tell(handoff.Settled, "")
		slim.Trim() // there is no root to hand over to: this one stays, and the collector has nothing to wake for
	}
}

// unsettled gives up waiting for all to settle, for a module whose init
// function never returns must not keep the shell from whoever wants to look.
func (e *engine) unsettled() {
	if e.settled || e.leaving {
		return
	}
	var late []string
	for _, m := range e.modules.sched.Modules() {
		if !m.State.Ended() {
			late = append(late, m.Name+" "+m.State.String())
		}
	}
	e.log.Warnf("not settled after %v (hapax.timeout=): %s", e.params.Timeout, strings.Join(late, ", "))
	e.writeReport()
	e.announce()
	e.tell(handoff.Settled, "")
}
