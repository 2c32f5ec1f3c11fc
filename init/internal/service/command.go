package service

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A Verb is what somebody wants of a service.
type Verb string

// The verbs.
const (
	VerbStart   Verb = "start"
	VerbStop    Verb = "stop"
	VerbRestart Verb = "restart"
)

// maxWaiters bounds those who wait for one service.
const maxWaiters = 64

// Status is what is known about a service.
type Status struct {
	Name     string `json:"name"`
	State    State  `json:"state"`
	Seconds  int64  `json:"seconds"` // in this state
	Pid      int    `json:"pid,omitempty"`
	Starts   int    `json:"starts"`
	WaitsFor string `json:"waits_for,omitempty"`
	Ended    string `json:"ended,omitempty"` // how the last process did
}

// Ask carries a command out, and waits until the service is ready or has stopped. It is for any goroutine but that of the
// Manager. The error is an *Error, or that of ctx.
func (m *Manager) Ask(ctx context.Context, v Verb, name string) error {
	result := make(chan error, 1)
	err := m.Do(ctx, func() { m.command(ctx, v, name, func(err error) { result <- err }) })
	if err != nil {
		return err
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Status returns what is known of all services, or of the one with a name. It is for any goroutine but that of the Manager.
func (m *Manager) Status(ctx context.Context, name string) ([]Status, error) {
	result := make(chan []Status, 1)
	if err := m.Do(ctx, func() { result <- m.status(name) }); err != nil {
		return nil, err
	}
	select {
	case all := <-result:
		if len(all) == 0 && name != "" {
			return nil, &Error{name, unknown}
		}
		return all, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Log returns the last lines that a service has written, which its log= may also have sent elsewhere. It is for any goroutine.
func (m *Manager) Log(ctx context.Context, name string) ([]byte, error) {
	if _, err := m.Status(ctx, name); err != nil {
		return nil, err
	}
	return m.sys.Log(name), nil
}

const unknown = "there is no such service"

func (m *Manager) status(name string) []Status {
	now := time.Now()
	all := []Status{}
	for _, u := range m.units {
		if name != "" && u.Name != name {
			continue
		}
		s := Status{Name: u.Name, State: u.state, Seconds: int64(now.Sub(u.since) / time.Second), Starts: u.starts, Ended: u.ended}
		if u.alive {
			s.Pid = u.proc.Pid()
		}
		if u.state == Waiting {
			s.WaitsFor = m.waitsFor(u)
		}
		all = append(all, s)
	}
	return all
}

// command begins a command. done is called once, possibly at once, unless ctx ends before.
func (m *Manager) command(ctx context.Context, v Verb, name string, done func(error)) {
	u := m.find(name)
	switch {
	case u == nil:
		done(&Error{name, unknown})
		return
	case m.ending && v != VerbStop:
		done(&Error{name, "the machine is going down"})
		return
	}
	w := waiter{ctx, v == VerbStop, done}
	switch v {
	case VerbStart:
		m.want(u)
	case VerbStop:
		m.unwant(u, toStopped)
	case VerbRestart:
		if u.proc != nil || u.state == Done {
			m.unwant(u, toStart)
		}
		m.want(u)
	default:
		done(fmt.Errorf("unknown command %q", v))
		return
	}
	m.advance()
	if !u.tell(w) {
		m.wait(u, w)
	}
}

// wait keeps a waiter, unless there are too many that have not gone away.
func (m *Manager) wait(u *unit, w waiter) {
	u.waiters = slices.DeleteFunc(u.waiters, func(w waiter) bool { return w.ctx.Err() != nil })
	if len(u.waiters) == maxWaiters {
		w.done(&Error{u.Name, "too many wait for it"})
		return
	}
	u.waiters = append(u.waiters, w)
}

// want has a service started, and what it is after unless that is ready or on its way.
func (m *Manager) want(u *unit) {
	switch u.state {
	case Stopped, Failed, Pausing:
		u.recent, u.again = nil, false
		u.enter(Waiting)
	case Stopping:
		u.recent, u.then = nil, toStart
	default:
		return
	}
	for _, name := range u.After {
		if d := m.find(name); d != nil {
			m.want(d)
		}
	}
}

// unwant ends a service.
func (m *Manager) unwant(u *unit, then outcome) {
	switch u.state {
	case Starting, Up:
		m.quit(u, then)
	case Stopping:
		u.then = then
	default:
		u.enter(Stopped)
	}
}
