package modload

import (
	"slices"
	"time"

	"hapax/modload/modindex"
)

// This file keeps requests of the kernel from waiting in a circle. The nodes
// of the graph are the records and the calls that hold something up; the edges
// lead from a record to what it needs, from a record whose init function or
// install command waits for a call to that call, and from a call to the
// records that it waits for. See kernel/module/kmod.c: the kernel itself sets
// no limit to such a wait.

// An edge leads from a record that is Waiting to one that it waits for.
type edge struct {
	to   *record
	soft bool
}

// enlist enters a call into the graph and breaks what circle it closes.
func (s *Scheduler) enlist(q *call) {
	for _, w := range q.waits {
		w.broken = make(chan struct{})
	}
	if q.Asker != "" {
		// The command comes first: a module that has one is asked for by it.
		name := modindex.Normalize(q.Asker)
		for _, r := range []*record{s.commands[name], s.table[name]} {
			if r != nil && r.state == Inserting {
				q.asker = r
				break
			}
		}
	}
	s.calls = append(s.calls, q)
	s.breakCircles()
	if q.asker == nil && s.opt.Asking != nil && s.tick == nil {
		s.tick = time.AfterFunc(tickEvery, s.lookForCircles)
	}
}

// dismiss takes an answered call out of the graph; over is why it ended early.
func (s *Scheduler) dismiss(q *call, over error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.calls, q); i >= 0 {
		s.calls = slices.Delete(s.calls, i, i+1)
	}
	if over == ErrOverdue {
		s.count.Overdue++
	}
}

// breakCircles ends the waits that lead back to their asker, those of the
// youngest calls first. It is called when a call comes in and when a module
// that was waited for comes back after its removal, and need not be called at
// any other time: the edges of all other records are made before anything waits
// for them.
func (s *Scheduler) breakCircles() {
	for i := len(s.calls) - 1; i >= 0; i-- {
		q := s.calls[i]
		if q.asker == nil || q.asker.state != Inserting {
			continue
		}
		for _, w := range q.waits {
			if w.waiting() && s.circular(w.r, q.asker) {
				s.breakOff(w)
			}
		}
	}
}

// circular reports whether from has to wait for to. A circle that a soft
// dependency closes is cut there: a wish that cannot be granted.
func (s *Scheduler) circular(from, to *record) bool {
	for {
		path := s.path(from, to)
		if path == nil {
			return false
		}
		i := slices.IndexFunc(path, func(st step) bool { return st.soft })
		if i < 0 {
			return true
		}
		path[i].from.dropSoft(path[i].to)
		s.ready(path[i].from)
	}
}

// A step is one edge of a path, or the place where it ends.
type step struct {
	from, to *record
	soft     bool
}

// path returns a way along the edges from one record to another; nil if there
// is none. The last step ends at to and is not an edge.
func (s *Scheduler) path(from, to *record) []step {
	s.mark++
	var walk func(r *record) []step
	walk = func(r *record) []step {
		if r == to {
			return []step{{from: r, to: r}}
		}
		if r.mark == s.mark || r.state.Ended() || r.early {
			return nil
		}
		r.mark = s.mark
		for _, e := range s.edges(r) {
			if way := walk(e.to); way != nil {
				return append(way, step{r, e.to, e.soft})
			}
		}
		return nil
	}
	return walk(from)
}

// edges returns what r waits for.
func (s *Scheduler) edges(r *record) []edge {
	switch r.state {
	case Waiting:
		return r.needs
	case Inserting:
		var list []edge
		for _, q := range s.calls {
			if q.asker != r {
				continue
			}
			for _, w := range q.waits {
				if w.waiting() {
					list = append(list, edge{to: w.r})
				}
			}
		}
		return list
	}
	return nil
}

// dropSoft makes r not wait for the soft dependency d any more.
func (r *record) dropSoft(d *record) {
	i := slices.IndexFunc(r.needs, func(e edge) bool { return e.to == d && e.soft })
	r.needs = slices.Delete(slices.Clone(r.needs), i, i+1)
	r.soft--
	i = slices.Index(d.softUsers, r)
	d.softUsers = slices.Delete(d.softUsers, i, i+1)
}

// waiting reports whether the call has no answer for w yet.
func (w *wait) waiting() bool {
	if w.r == nil {
		return false
	}
	select {
	case <-w.done:
		return false
	case <-w.broken:
		return false
	default:
		return true
	}
}

func (s *Scheduler) breakOff(w *wait) {
	close(w.broken)
	s.count.Loops++
}

// tickEvery is how often lookForCircles looks. A circle is broken when it is
// seen twice, for the helper of a request takes a while to reach us.
const tickEvery = 700 * time.Millisecond

// briskTicks is how many looks come soon one after the other once a circle was
// broken. Others that were there, too, need not take as long to be sure of.
const briskTicks = 16

// lookForCircles breaks circles where nobody can tell which module has made
// which request, only which modules are waiting for one. When all requests of
// the kernel wait for such modules alone, nothing can move any more, and the
// youngest that does gives way. It runs as long as such requests do.
func (s *Scheduler) lookForCircles() {
	s.mu.Lock()
	names := map[*record]string{}
	for r := range s.records() {
		if r.state == Inserting {
			names[r] = r.mod.Name
		}
	}
	s.mu.Unlock()
	asking := map[*record]bool{}
	for r, name := range names {
		asking[r] = s.opt.Asking(name)
	}
	s.mu.Lock()
	next := tickEvery
	stuck := s.stuckCall(asking)
	if stuck != nil && stuck == s.suspect {
		for _, w := range stuck.waits {
			for r, asks := range asking {
				if asks && w.waiting() && s.circular(w.r, r) {
					s.breakOff(w)
				}
			}
		}
		stuck, s.brisk = nil, briskTicks
	}
	if s.brisk > 0 {
		s.brisk--
		next = tickEvery / 16
	}
	s.suspect = stuck
	s.tick = nil
	if slices.ContainsFunc(s.calls, func(q *call) bool { return q.asker == nil }) {
		s.tick = time.AfterFunc(next, s.lookForCircles)
	}
	s.unlock()
}

// stuckCall returns the youngest call that waits for nothing but modules that
// are asking, if all calls do.
func (s *Scheduler) stuckCall(asking map[*record]bool) *call {
	var youngest *call
	for _, q := range s.calls {
		for _, w := range q.waits {
			if !w.waiting() {
				continue
			}
			moves, asks := s.moves(w.r, asking, map[*record]bool{})
			if moves {
				return nil
			}
			if asks {
				youngest = q
			}
		}
	}
	return youngest
}

// moves reports whether r gets on by itself, and whether it waits for a module
// that is asking.
func (s *Scheduler) moves(r *record, asking, seen map[*record]bool) (moves, asks bool) {
	if seen[r] || r.state.Ended() {
		return false, false
	}
	seen[r] = true
	switch {
	case r.state == Inserting && asking[r]:
		return false, true
	case r.state != Waiting:
		return true, false
	}
	for _, e := range r.needs {
		m, a := s.moves(e.to, asking, seen)
		moves, asks = moves || m, asks || a
	}
	return moves, asks
}
