package modload

import (
	"fmt"
	"strings"
	"time"

	"hapax/modload/modindex"
)

// A record is what the Scheduler knows of one module. All fields but mod are
// guarded by Scheduler.mu.
type record struct {
	mod modindex.Module

	state  State
	err    error  // why it is Refused or Failed, or is tried again
	root   string // the module that failed first, if a dependency's failure is the reason
	origin Origin // who asked first
	query  string // the name or alias that reached it first; "" for a hard dependency
	asked  int    // requests that named it, dependants included
	pass   uint32 // the pass in which it was last tried
	urgent bool   // goes before the others; hasten sets it
	early  bool   // Inserting, but the kernel has said that it is live
	slow   bool   // Inserting for so long that it has no place among the workers any more
	again  bool   // has had the second try that Result.Again asks for, or is waiting for it

	// Edges of a record that is Waiting. The counts say how many dependencies
	// have not ended; the lists are the same edges from the other end.
	hard, soft int
	needs      []*record // both kinds, for the reachability search
	hardUsers  []*record // to be released or failed with this one
	softUsers  []*record // to be released, whatever becomes of this one

	planning bool   // its dependencies are being entered further up the stack
	mark     uint32 // generation in which the reachability search saw it

	entered, begun, finished time.Time

	done chan struct{} // closed when it ends; made by the first waiter
}

// wait returns a channel that is closed once r has ended.
func (r *record) wait() <-chan struct{} {
	if r.done == nil {
		r.done = make(chan struct{})
		if r.state.Ended() {
			close(r.done)
		}
	}
	return r.done
}

// want returns the record of a module that somebody asked for by name and
// whether the request put it to work: it is new, or it is retried. The caller
// holds mu and calls start afterwards.
func (s *Scheduler) want(name, query string, o Origin) (r *record, isNew bool) {
	if r = s.table[name]; r != nil {
		r.asked++
		isNew = o.Kind == Uevent && s.retry(r)
		if o.Kind == Named {
			s.hasten(r)
		}
	} else {
		r, isNew = s.enter(name, query, o), true
	}
	s.enterSoft()
	return r, isNew
}

// enter returns the record of name. If there is none it makes one, enters its
// hard dependencies first, and leaves it in s.fresh.
func (s *Scheduler) enter(name, query string, o Origin) *record {
	if r := s.table[name]; r != nil {
		r.asked++
		return r
	}
	mod, known := s.opt.Index.Module(name)
	if !known {
		mod.Name = name
	}
	o.By = strings.Clone(o.By) // it may be a piece of a whole uevent
	r := &record{mod: mod, origin: o, query: strings.Clone(query), asked: 1, pass: s.pass, entered: time.Now()}
	r.urgent = o.Kind == Named || urgent(mod.Path)
	s.table[name] = r
	if known && mod.Builtin {
		r.state = Builtin
		return r
	}
	s.pending++
	switch {
	case !known:
		s.end(r, Failed, &LoadError{Module: name, Op: "look up", Err: ErrNotFound})
		return r
	case mod.Install != "":
		s.end(r, Failed, &LoadError{Module: name, Op: "install command", Err: ErrInstall})
		return r
	}
	if reason, denied := s.opt.Config.Denied(name); denied {
		s.end(r, Failed, &LoadError{Module: name, Op: "check", Err: fmt.Errorf("%w by %s", ErrDenied, reason)})
		return r
	}
	s.fresh = append(s.fresh, r)
	s.await(r)
	return r
}

// await enters the hard dependencies of r and makes r wait for those that are
// not live. If one of them has failed, or needs r itself, r fails here.
func (s *Scheduler) await(r *record) {
	r.planning = true
	defer func() { r.planning = false }()
	for _, dep := range r.mod.Deps {
		d := s.enter(dep, "", Origin{Kind: Dependency, By: r.mod.Name})
		switch {
		case d.planning:
			s.end(r, Failed, &LoadError{Module: r.mod.Name, Op: "dependency " + dep, Err: ErrCycle})
		case d.early:
		case !d.state.Ended():
			r.hard++
			r.needs = append(r.needs, d)
			d.hardUsers = append(d.hardUsers, r)
			if r.urgent {
				s.hasten(d)
			}
		case !d.state.usable():
			s.failBy(r, d)
		}
		if r.state.Ended() {
			return
		}
	}
}

// enterSoft enters the soft dependencies of all fresh records, which may make
// more of them. An edge that would close a circle is left out: the order is a
// wish then that cannot be granted.
func (s *Scheduler) enterSoft() {
	for ; s.planned < len(s.fresh); s.planned++ {
		r := s.fresh[s.planned]
		if r.state.Ended() {
			continue
		}
		for _, query := range r.mod.Pre {
			for _, name := range s.opt.Index.Lookup(query).Names {
				d := s.enter(name, query, Origin{Kind: Softdep, By: r.mod.Name})
				if d.state.Ended() || d.early || s.reaches(d, r) {
					continue
				}
				r.soft++
				r.needs = append(r.needs, d)
				d.softUsers = append(d.softUsers, r)
				if r.urgent {
					s.hasten(d)
				}
			}
		}
	}
}

// reaches reports whether from waits for to, directly or through others. A
// record reaches itself.
func (s *Scheduler) reaches(from, to *record) bool {
	s.mark++
	stack := []*record{from}
	for len(stack) > 0 {
		r := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if r == to {
			return true
		}
		if r.mark == s.mark || r.state.Ended() {
			continue
		}
		r.mark = s.mark
		stack = append(stack, r.needs...)
	}
	return false
}

// retry puts a module that refused back to work, and one that failed because
// a dependency refused. It reports whether it did. A module is tried once per
// pass, so that many devices of one kind that arrive together cost one call.
func (s *Scheduler) retry(r *record) bool {
	if r.pass == s.pass || !s.retryable(r) {
		return false
	}
	r.pass = s.pass
	s.pending++
	s.count.Retried++
	s.uncount(r)
	r.state, r.err, r.root = Waiting, nil, ""
	r.entered, r.begun, r.finished = time.Now(), time.Time{}, time.Time{}
	r.hard, r.soft, r.done = 0, 0, nil
	s.fresh = append(s.fresh, r)
	for _, dep := range r.mod.Deps {
		if d := s.table[dep]; d != nil {
			s.retry(d)
		}
	}
	s.await(r)
	return true
}

// retryable reports whether a new device may change the answer.
func (s *Scheduler) retryable(r *record) bool {
	if r.state == Failed && r.root != "" {
		root := s.table[r.root]
		return root != nil && root.state != Failed
	}
	return r.state == Refused
}

// failBy ends r because its dependency d has ended without becoming usable.
func (s *Scheduler) failBy(r, d *record) {
	root := d
	if d.root != "" && s.table[d.root] != nil {
		root = s.table[d.root]
	}
	r.root = root.mod.Name
	cause := root.err
	if le, ok := cause.(*LoadError); ok {
		cause = le.Err
	}
	s.end(r, Failed, &LoadError{Module: r.mod.Name, Op: "dependency " + r.root, Err: cause})
}

// end gives r its final state and passes the news on: dependants are released
// or failed, waiters woken, softdep post modules entered.
func (s *Scheduler) end(r *record, state State, err error) {
	r.state, r.err, r.finished = state, err, time.Now()
	r.needs = nil
	s.tally(r)
	s.ended = append(s.ended, r)
	if r.done != nil {
		close(r.done)
	}
	r.early = false
	s.release(r, state.usable())
	if state == Live && !s.draining {
		for _, query := range r.mod.Post {
			for _, name := range s.opt.Index.Lookup(query).Names {
				s.enter(name, query, Origin{Kind: Softdep, By: r.mod.Name})
			}
		}
		s.enterSoft()
	}
	if s.pending--; s.pending == 0 {
		s.pass++
		s.idleDue = true
		if s.idle != nil {
			close(s.idle)
			s.idle = nil
		}
	}
}

// release lets go of what waits for r: soft dependants in any case, hard ones
// if r is usable, else they fail.
func (s *Scheduler) release(r *record, usable bool) {
	hard, soft := r.hardUsers, r.softUsers
	r.hardUsers, r.softUsers = nil, nil
	for _, u := range hard {
		switch {
		case u.state != Waiting: // it failed by another dependency
		case usable:
			u.hard--
			s.ready(u)
		default:
			s.failBy(u, r)
		}
	}
	for _, u := range soft {
		if u.state == Waiting {
			u.soft--
			s.ready(u)
		}
	}
}

// abandon forgets a record that was never started.
func (s *Scheduler) abandon(r *record) {
	r.state, r.err = Failed, &LoadError{Module: r.mod.Name, Op: "start", Err: ErrDraining}
	delete(s.table, r.mod.Name)
	s.count.Abandoned++
	if r.done != nil {
		close(r.done)
	}
	if s.pending--; s.pending == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}
