package modload

import (
	"context"
	"iter"
)

// Drain ends the Scheduler: nothing more is started, and Drain waits for the
// loads that the kernel has begun. It returns the names of those that were
// still running when ctx ended. Waiters of modules that were never started are
// released with ErrDraining; a load that was to be tried again keeps its first
// answer. What a running load asks for itself is still served, for it could not
// end otherwise. A second call joins the first.
func (s *Scheduler) Drain(ctx context.Context) []string {
	s.mu.Lock()
	if !s.draining {
		s.draining = true
		s.quiet = make(chan struct{})
		for _, r := range s.again {
			s.end(r, outcome(r.err), r.err)
		}
		s.again, s.queue = nil, queue{}
		for r := range s.records() {
			switch {
			case r.state != Waiting && r.state != Queued:
			case r.haste < expressHaste:
				s.abandon(r)
			case r.state == Queued:
				r.state = Waiting
				s.ready(r)
			}
		}
		s.hush()
	}
	quiet := s.quiet
	s.unlock()

	select {
	case <-quiet:
		return nil
	case <-ctx.Done():
	}
	var running []string
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.records() {
		if r.state == Inserting {
			running = append(running, r.mod.Name)
		}
	}
	return running
}

// hush tells Drain if no load is left.
func (s *Scheduler) hush() {
	if s.draining && s.loading == 0 && !s.isQuiet {
		s.isQuiet = true
		close(s.quiet)
	}
}

// abandon forgets a record that was never started.
func (s *Scheduler) abandon(r *record) {
	if r.command != "" {
		delete(s.commands, r.mod.Name)
	} else {
		delete(s.table, r.mod.Name)
	}
	s.count.Abandoned++
	r.conclude(Failed, &LoadError{Module: r.mod.Name, Op: "start", Err: ErrDraining})
	s.less()
}

// records yields every record once.
func (s *Scheduler) records() iter.Seq[*record] {
	return func(yield func(*record) bool) {
		for key, r := range s.table {
			if key == r.mod.Name && !yield(r) { // else it is the kernel's name for it
				return
			}
		}
		for _, r := range s.commands {
			if !yield(r) {
				return
			}
		}
	}
}
