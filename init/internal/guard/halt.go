package guard

import (
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/handoff"
	"hapax/init/internal/shutdown"
)

// A stage is how far the machine is on its way down.
type stage uint8

const (
	up          stage = iota
	stopping          // the services, in their order
	terminating       // every process that is left has got SIGTERM
	killing           // and SIGKILL
	finishing         // package shutdown is at work
)

const (
	// Each service has a stop-timeout, but they wait for each other.
	servicePatience = 3 * time.Minute

	termPatience = 5 * time.Second // between SIGTERM and SIGKILL
	killPatience = 2 * time.Second // for a process that is stuck in the kernel
	lastWords    = time.Second     // for what is still to be said on the console
)

// An ending is the state of the way down. Its zero value is a machine that runs.
type ending struct {
	stage   stage
	method  shutdown.Method
	stopped <-chan struct{}  // closed when the services have stopped
	limit   <-chan time.Time // fires when the stage has had its time
	failed  chan error       // what reboot(2) said
	gone    atomic.Bool      // reboot(2) has been called: nothing keeps the watchdog quiet any more
}

// ending reports whether the machine is on its way down: nothing is started any
// more then.
func (g *guard) ending() bool { return g.end.stage != up }

// halt ends the machine: the services in their order, SIGTERM for every other
// process and, for those that stay, SIGKILL, then what package shutdown does. A
// second call changes nothing.
func (g *guard) halt(m shutdown.Method) {
	if g.ending() {
		return
	}
	g.log.Infof("%s", map[shutdown.Method]string{
		shutdown.Reboot: "rebooting", shutdown.Halt: "halting", shutdown.PowerOff: "powering off",
		shutdown.Kexec: "starting the kernel that kexec has loaded",
	}[m])
	g.end.method = m
	g.start, g.again, g.leave, g.reboot, g.then = nil, nil, nil, nil, nil
	g.checked, g.target = nil, nil
	g.end.stage, g.end.limit = stopping, time.After(servicePatience)
	if g.stopServices() {
		g.terminate()
	}
}

// terminate asks every process to end. Shells take a hangup for that, and what
// is stopped has to go on for it.
func (g *guard) terminate() {
	g.end.stopped = nil
	// Nobody answers the kernel's requests for modules any more.
	_ = os.WriteFile(handoff.ModprobeSysctl, []byte("\n"), 0)
	g.end.stage, g.end.limit = terminating, time.After(termPatience)
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGCONT} {
		_ = unix.Kill(-1, sig)
	}
	g.reap() // there may be none
}

// overdue goes on when a stage has had its time.
func (g *guard) overdue() {
	g.end.limit = nil
	switch g.end.stage {
	case stopping:
		g.log.Warnf("some services have not stopped after %v: %s", servicePatience, g.services.Running())
		g.terminate()
	case terminating:
		g.log.Warnf("some processes have not ended %v after SIGTERM: SIGKILL", termPatience)
		g.end.stage, g.end.limit = killing, time.After(killPatience)
		_ = unix.Kill(-1, unix.SIGKILL)
	case killing:
		g.log.Warnf("some processes are stuck in the kernel: going on without them")
		g.finish()
	}
}

// childless goes on when there is nobody left to wait for.
func (g *guard) childless() {
	if g.end.stage == terminating || g.end.stage == killing {
		g.finish()
	}
}

// finish has package shutdown do the rest, in a goroutine: it waits for disks.
func (g *guard) finish() {
	g.end.stage, g.end.limit = finishing, nil
	if g.end.method == shutdown.Halt {
		g.dog.release() // a machine that has halted feeds no watchdog
	}
	o := shutdown.Options{Method: g.end.method, Logf: g.log.Warnf, Before: g.goDown}
	go func() { g.end.failed <- shutdown.Finish(g.kernel, o) }()
}

// goDown is called right before reboot(2). If that hangs, the watchdog bites.
func (g *guard) goDown() {
	g.flush(lastWords)
	g.end.gone.Store(true)
}

// haltNow ends the machine without another look at anything.
func (g *guard) haltNow(m shutdown.Method) {
	g.flush(lastWords / 10)
	if m == shutdown.Halt {
		g.dog.release()
	}
	go func() { g.end.failed <- shutdown.Now(g.kernel, shutdown.Options{Method: m, Logf: g.log.Warnf}) }()
}
