package service

import (
	"context"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/klog"
)

// killPatience is how long what was killed may take to go. A process that waits for a device cannot be killed before the
// device answers.
const killPatience = 5 * time.Second

// A System starts processes.
type System interface {
	// Start starts the program of a service, of which no other process runs. ready is to be called, from any goroutine, when
	// the program says by ReadyFD that it is ready; more than one call is one.
	Start(s *Spec, ready func()) (Process, error)

	// Log returns the last lines that a service has written.
	Log(name string) []byte
}

// A Process is a running service: its main process and what that has started. All methods but Ready return at once.
type Process interface {
	// Pid is that of the main process.
	Pid() int

	// Signal sends a signal to the main process and those of its group, which has not been reaped.
	Signal(unix.Signal)

	// Kill kills every process of the service.
	Kill()

	// Ready looks whether the service is ready: for ReadyFile, ReadySocket and ReadyTCP. It alone may take its time, for the
	// disk that it looks at; it is called in a goroutine of its own, by one at a time.
	Ready() bool

	// Gone reports whether no process of a service is left whose main process was reaped, and frees what it held. It is asked
	// until it has said so.
	Gone() bool
}

// A Manager has all services of an image. One goroutine may use it, the one that also takes what comes from Due and Work; only
// Do, Ask and Status are for others.
type Manager struct {
	sys     System
	log     *klog.Logger
	units   []*unit
	reached map[string]bool
	work    chan func()
	timer   *time.Timer
	ending  bool
	end     chan struct{}
}

// New returns a Manager for services that Parse has returned, or that are after nothing but each other without a circle. None is
// started yet.
func New(specs []Spec, sys System, log *klog.Logger) *Manager {
	m := &Manager{
		sys: sys, log: log, reached: map[string]bool{}, work: make(chan func(), 16), end: make(chan struct{}),
		timer: time.NewTimer(time.Hour),
	}
	m.timer.Stop()
	for _, s := range specs {
		m.units = append(m.units, &unit{Spec: s, since: time.Now()})
	}
	for _, u := range m.units {
		for _, name := range u.After {
			if d := m.find(name); d != nil {
				d.dependants = append(d.dependants, u)
			}
		}
	}
	return m
}

// Has reports whether there is a service of this name.
func (m *Manager) Has(name string) bool { return m.find(name) != nil }

// Runs reports whether there is one, and has a process.
func (m *Manager) Runs(name string) bool {
	u := m.find(name)
	return u != nil && u.proc != nil
}

func (m *Manager) find(name string) *unit {
	for _, u := range m.units {
		if u.Name == name {
			return u
		}
	}
	return nil
}

// Due fires when Tick is to be called.
func (m *Manager) Due() <-chan time.Time { return m.timer.C }

// Work has functions that are to be called by the goroutine of the Manager.
func (m *Manager) Work() <-chan func() { return m.work }

// Do has f called by the goroutine of the Manager, later. It may be called by any other, and waits for room in the queue; the
// error is that of ctx.
func (m *Manager) Do(ctx context.Context, f func()) error {
	select {
	case m.work <- f:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Start wants all services to run.
func (m *Manager) Start() {
	for _, u := range m.units {
		if u.state == Stopped && !m.ending {
			u.enter(Waiting)
		}
	}
	m.advance()
}

// Reached tells that a target has been reached. It stays so.
func (m *Manager) Reached(target string) {
	m.reached[target] = true
	m.advance()
}

// Ended takes the end of a child, and reports whether it was the main process of a service.
func (m *Manager) Ended(pid int, status unix.WaitStatus) bool {
	for _, u := range m.units {
		if u.alive && u.proc.Pid() == pid {
			m.ended(u, status)
			m.advance()
			return true
		}
	}
	return false
}

// ended ends what the main process has left behind.
func (m *Manager) ended(u *unit, status unix.WaitStatus) {
	u.alive = false
	switch {
	case u.state != Stopping:
		u.ended, u.good = Describe(status), status.Exited() && status.ExitStatus() == 0
		u.then = u.outcomeOf(u.good)
		u.enter(Stopping)
	case u.then == toStopped || u.then == toStart:
		u.ended = Describe(status)
	}
	u.proc.Kill()
	u.killed = true
	u.limit = time.Now().Add(killPatience)
	m.sweep(u)
}

// sweep looks whether all of a service is gone.
func (m *Manager) sweep(u *unit) {
	if !u.proc.Gone() {
		u.lookAgain(time.Now())
		return
	}
	u.proc, u.killed, u.stuck = nil, false, false
	m.over(u)
}

// over acts on the end of a service of which nothing is left.
func (m *Manager) over(u *unit) {
	switch {
	case u.then == toDone:
		m.log.Infof("%s: done", u.Name)
		u.enter(Done)
	case u.then == toFailed:
		m.log.Errorf("%s has failed: %s", u.Name, u.ended)
		u.enter(Failed)
	case m.ending || u.then == toStopped:
		m.log.Infof("%s has stopped: %s", u.Name, u.ended)
		u.enter(Stopped)
	case u.then == toStart:
		u.enter(Waiting)
	default:
		m.pause(u)
	}
}

// pause plans another start.
func (m *Manager) pause(u *unit) {
	now := time.Now()
	wait, braked := u.pause(now)
	if braked {
		m.log.Errorf("%s has ended: %s; started %d times within %v, so the next time is in %v", u.Name, u.ended, u.Brake.Starts, u.Brake.Within, wait)
	} else if u.good {
		m.log.Infof("%s has ended; starting it again in %v", u.Name, wait)
	} else {
		m.log.Warnf("%s has ended: %s; starting it again in %v", u.Name, u.ended, wait)
	}
	u.enter(Pausing)
	u.due = now.Add(wait)
}

// Tick does what is due.
func (m *Manager) Tick() {
	now := time.Now()
	for _, u := range m.units {
		if !u.due.IsZero() && !now.Before(u.due) {
			u.due = time.Time{}
			m.lookAt(u, now)
		}
		if !u.limit.IsZero() && !now.Before(u.limit) {
			u.limit = time.Time{}
			m.late(u, now)
		}
	}
	m.advance()
}

// lookAt looks at what nobody tells.
func (m *Manager) lookAt(u *unit, now time.Time) {
	switch {
	case u.state == Pausing:
		u.again = true
		u.enter(Waiting)
	case u.state == Starting && u.looking: // a disk that hangs has one goroutine, however often the service is started
		u.lookAgain(now)
	case u.state == Starting:
		m.probe(u)
	case u.state == Stopping && !u.alive:
		m.sweep(u)
	}
}

// probe looks whether a service that is starting is ready.
func (m *Manager) probe(u *unit) {
	proc, instance := u.proc, u.starts
	u.looking = true
	go func() {
		ready := proc.Ready()
		_ = m.Do(context.Background(), func() {
			u.looking = false
			switch {
			case u.starts != instance || u.state != Starting:
			case ready:
				m.ready(u)
				m.advance()
			default:
				u.lookAgain(time.Now())
				m.setTimer()
			}
		})
	}()
}

// late acts on a service that has used up its time.
func (m *Manager) late(u *unit, now time.Time) {
	switch {
	case u.state == Starting:
		m.log.Errorf("%s is not ready after %v (start-timeout)", u.Name, u.StartTimeout)
		u.ended, u.good = "not ready after "+u.StartTimeout.String(), false
		m.quit(u, u.outcomeOf(false))
	case u.state == Stopping && !u.killed:
		m.log.Warnf("%s has not stopped after %v (stop-timeout): killing it", u.Name, u.StopTimeout)
		u.proc.Kill()
		u.killed = true
		u.limit = now.Add(killPatience)
	case u.state == Stopping:
		m.log.Errorf("%s was killed, and is still there after %v", u.Name, killPatience)
		u.stuck = true
	}
}

// quit tells a running service to end.
func (m *Manager) quit(u *unit, then outcome) {
	u.then = then
	u.enter(Stopping)
	u.limit = u.since.Add(u.StopTimeout)
	u.proc.Signal(u.StopSignal)
}

// advance does everything that can be done now, and sets the timer.
func (m *Manager) advance() {
	for changed := true; changed; {
		changed = false
		clear := map[*unit]bool{} // what is told to end in this round is not down before the next one
		for _, u := range m.units {
			switch {
			case u.state == Waiting && !m.ending && m.waitsFor(u) == "":
				m.start(u)
				changed = true
			case m.ending && (u.state == Up || u.state == Starting) && u.clearAbove(clear):
				m.quit(u, toStopped)
				changed = true
			}
		}
	}
	m.setTimer()
	if m.ending && m.down() {
		select {
		case <-m.end:
		default:
			close(m.end)
		}
	}
}

// waitsFor returns something that u is after and that is not ready, "" if there is none.
func (m *Manager) waitsFor(u *unit) string {
	if u.again {
		return ""
	}
	for _, name := range u.After {
		if d := m.find(name); d != nil && !d.ready() || d == nil && !m.reached[name] {
			return name
		}
	}
	return ""
}

// start starts a service.
func (m *Manager) start(u *unit) {
	u.starts++
	now := time.Now()
	u.recent = append(u.recent, now)
	if n := len(u.recent) - max(u.Brake.Starts, 1); n > 0 {
		u.recent = u.recent[n:]
	}
	instance := u.starts
	proc, err := m.sys.Start(&u.Spec, func() {
		_ = m.Do(context.Background(), func() {
			if u.starts == instance && u.state == Starting {
				m.ready(u)
				m.advance()
			}
		})
	})
	u.again = false
	if err != nil {
		u.ended, u.good = err.Error(), false
		u.then = u.outcomeOf(false)
		m.over(u)
		return
	}
	u.proc, u.alive = proc, true
	u.enter(Starting)
	m.log.Debugf("%s: started as process %d", u.Name, proc.Pid())
	if u.StartTimeout > 0 {
		u.limit = now.Add(u.StartTimeout)
	}
	switch {
	case u.Oneshot || u.Ready.Kind == ReadyFD:
	case u.Ready.Kind == ReadyStarted:
		m.ready(u)
	default:
		u.lookAgain(now)
	}
}

// ready makes a daemon up.
func (m *Manager) ready(u *unit) {
	if u.starts == 1 {
		m.log.Infof("%s is up", u.Name)
	}
	u.enter(Up)
}

// setTimer makes Due fire for what is due first.
func (m *Manager) setTimer() {
	var first time.Time
	for _, u := range m.units {
		for _, t := range [...]time.Time{u.due, u.limit} {
			if !t.IsZero() && (first.IsZero() || t.Before(first)) {
				first = t
			}
		}
	}
	if first.IsZero() {
		m.timer.Stop()
		return
	}
	m.timer.Reset(time.Until(first))
}

func itoa(n int) string { return strconv.Itoa(n) }
