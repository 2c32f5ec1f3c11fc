package modload

import (
	"fmt"
	"time"
)

// want returns the record of a module that somebody asked for by name and
// whether the request put it to work: it is new, or it is tried again. The
// caller holds mu and calls start afterwards.
func (s *Scheduler) want(name string, o orders) (r *record, isNew bool) {
	r, isNew = s.enter(name, o)
	s.hasten(r, o.haste)
	s.enterSoft()
	return r, isNew
}

// enter returns the record of name and whether this call has put it to work. If
// there is none it makes one, enters its hard dependencies first, and leaves it
// in s.fresh.
func (s *Scheduler) enter(name string, o orders) (r *record, isNew bool) {
	r = s.find(name, o.direct)
	if r == nil || !singleFlight && !r.state.Ended() && !r.planning {
		r = &record{orders: o.keep()}
		r.mod.Name = name
		s.introduce(r, o)
		r.asked = 1
		return r, true
	}
	r.asked++
	switch {
	case r.state == Removing:
		if r.wanted == nil {
			kept := o.keep()
			r.wanted = &kept
		}
		return r, true
	case r.state.usable(), !r.state.Ended():
		return r, false
	case o.origin.Kind == Uevent && s.retry(r):
		return r, true
	case r.state == Removed, o.again, r.generation != s.generation:
		s.revive(r, o)
		return r, true
	}
	return r, false
}

// find returns the record that answers for name: its install command's, if it
// has one and is not in the kernel already, and the request does not pass over
// that.
func (s *Scheduler) find(name string, direct bool) *record {
	r := s.table[name]
	if direct || r != nil && (r.mod.Install == "" || r.state.usable() || r.early) {
		return r
	}
	c := s.commands[name]
	if c == nil && r != nil && r.generation != s.generation {
		return r // the install line may be gone
	}
	return c
}

// revive puts an ended record to work once more.
func (s *Scheduler) revive(r *record, o orders) {
	switch r.state {
	case Refused, Failed:
		s.uncount(r)
		s.count.Retried++
		r.reopen()
	case Removed:
		r.orders = o.keep()
		if r.wanted == nil { // else it has waiters since the removal began
			r.reopen()
		}
	}
	r.params, r.flags, r.file, r.wanted = o.params, o.flags, o.file, nil
	s.introduce(r, o)
}

// introduce starts the life of r: it asks the index, files the record, and
// enters its hard dependencies.
func (s *Scheduler) introduce(r *record, o orders) {
	name, known := r.mod.Name, true
	c := s.catalog.Load()
	if o.file != nil {
		r.mod = *o.file
	} else if mod, ok := c.index.Module(name); ok {
		r.mod = mod
	} else {
		known = false
	}
	r.state, r.err, r.root = Waiting, nil, ""
	r.entered, r.begun, r.finished = time.Now(), time.Time{}, time.Time{}
	r.pass, r.generation, r.second = s.pass, s.generation, false
	r.hard, r.soft = 0, 0
	if urgent(r.mod.Path) {
		r.haste = max(r.haste, urgentHaste)
	}
	s.file(r, name, o.direct || o.file != nil)
	if known && r.mod.Builtin {
		r.conclude(Builtin, nil)
		return
	}
	s.pending++
	switch reason, denied := c.config.Denied(name); {
	case !known:
		s.end(r, Failed, &LoadError{Module: name, Op: "look up", Err: ErrNotFound})
		return
	case denied:
		s.end(r, Failed, &LoadError{Module: name, Op: "check", Err: fmt.Errorf("%w by %s", ErrDenied, reason)})
		return
	case r.command != "" && s.opt.Run == nil:
		s.end(r, Failed, &LoadError{Module: name, Op: "install command", Err: ErrInstall})
		return
	}
	s.fresh = append(s.fresh, r)
	s.await(r, o.again)
}

// file puts r where find looks for it.
func (s *Scheduler) file(r *record, name string, direct bool) {
	r.command = ""
	if !direct {
		r.command = r.mod.Install
	}
	if r.command == "" {
		s.table[name] = r
		if s.commands[name] == r {
			delete(s.commands, name)
		}
		return
	}
	s.commands[name] = r
	if s.table[name] == r {
		delete(s.table, name)
	}
}

// await enters the hard dependencies of r and makes r wait for those that are
// not live. If one of them has failed, or needs r itself, r fails here.
func (s *Scheduler) await(r *record, again bool) {
	r.planning = true
	defer func() { r.planning = false }()
	for _, dep := range r.mod.Deps {
		d, _ := s.enter(dep, orders{origin: Origin{Kind: Dependency, By: r.mod.Name}, again: again})
		switch {
		case d.planning:
			s.end(r, Failed, &LoadError{Module: r.mod.Name, Op: "dependency " + dep, Err: ErrCycle})
		case d.early:
		case !d.state.Ended():
			r.hard++
			r.needs = append(r.needs, edge{to: d})
			d.hardUsers = append(d.hardUsers, r)
			s.hasten(d, r.haste)
			if len(r.softUsers) > 0 || len(r.hardUsers) > 0 {
				// It comes back after a removal, and was waited for meanwhile.
				s.circular(d, r)
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
	index := s.catalog.Load().index
	for ; s.planned < len(s.fresh); s.planned++ {
		r := s.fresh[s.planned]
		if r.state.Ended() {
			continue
		}
		for _, query := range r.mod.Pre {
			for _, name := range index.Lookup(query).Names {
				d, _ := s.enter(name, orders{query: query, origin: Origin{Kind: Softdep, By: r.mod.Name}})
				if d.state.Ended() || d.early || s.path(d, r) != nil {
					continue
				}
				r.soft++
				r.needs = append(r.needs, edge{d, true})
				d.softUsers = append(d.softUsers, r)
				s.hasten(d, r.haste)
			}
		}
	}
}

// retry puts a module that refused back to work, and one that failed because
// a dependency refused. It reports whether it did. A module is tried once per
// pass, so that many devices of one kind that arrive together cost one call.
func (s *Scheduler) retry(r *record) bool {
	if r.pass == s.pass || !s.retryable(r) {
		return false
	}
	r.pass = s.pass
	for _, dep := range r.mod.Deps {
		if d := s.find(dep, false); d != nil {
			s.retry(d)
		}
	}
	o := r.orders
	o.again = false // that was then
	s.revive(r, o)
	return true
}

// retryable reports whether a new device may change the answer: not if the
// module or one that it needs has failed for a reason of its own.
func (s *Scheduler) retryable(r *record) bool {
	if r.state != Refused && (r.state != Failed || r.root == "") {
		return false
	}
	for _, dep := range r.mod.Deps {
		if d := s.find(dep, false); d != nil && d.state == Failed && d.root == "" {
			return false
		}
	}
	return true
}

// failBy ends r because its dependency d has ended without becoming usable.
func (s *Scheduler) failBy(r, d *record) {
	root := d
	if d.root != "" {
		if first := s.find(d.root, false); first != nil {
			root = first
		}
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
	r.finished = time.Now()
	r.conclude(state, err)
	s.tally(r)
	s.ended = append(s.ended, r)
	s.release(r, state.usable())
	if state == Live && !s.draining {
		index := s.catalog.Load().index
		for _, query := range r.mod.Post {
			for _, name := range index.Lookup(query).Names {
				s.enter(name, orders{query: query, origin: Origin{Kind: Softdep, By: r.mod.Name}})
			}
		}
		s.enterSoft()
	}
	if c := s.commands[r.mod.Name]; c != nil && c != r && state == Live && c.state == Inserting && !c.early {
		s.rises(c) // the command of r has done its work, whatever it does yet
	}
	s.less()
}

// less takes one from pending, for a record that has come to rest.
func (s *Scheduler) less() {
	if s.pending--; s.pending == 0 {
		s.idleDue = true
	}
}

// rises lets go of what waits for r, which is live before its load has ended.
func (s *Scheduler) rises(r *record) {
	r.risen()
	s.release(r, true)
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
