package modload

import (
	"errors"
	"runtime"
	"time"
)

// DefaultWorkers is the number of loads that run at one time unless Options
// says otherwise: two per CPU, for an init function waits for its hardware
// more than it computes, at least 4 and at most 32, for every load ends in
// work that the kernel does for one at a time.
func DefaultWorkers() int { return min(max(2*runtime.NumCPU(), 4), 32) }

// ready queues r if nothing holds it back any more.
func (s *Scheduler) ready(r *record) {
	if r.state == Waiting && r.hard == 0 && r.soft == 0 && !r.planning {
		r.state = Queued
		s.queue.n++
		s.queue.push(r)
	}
}

// start queues the fresh records that wait for nothing and sees that there
// are workers for what is queued, but for the taken records that the caller
// is going to load itself.
func (s *Scheduler) start(taken int) {
	for _, r := range s.fresh {
		s.ready(r)
	}
	s.fresh = s.fresh[:0]
	for n := s.queue.n - taken; n > 0 && s.workers < s.opt.Workers; n-- {
		s.workers++
		go s.work()
	}
}

// work loads queued modules until none is left.
func (s *Scheduler) work() {
	s.mu.Lock()
	for {
		r := s.queue.pop()
		if r == nil {
			break
		}
		r.state, r.begun = Inserting, time.Now()
		params := s.opt.Config.Options(r.mod.Name)
		s.mu.Unlock()

		res := s.opt.Load(r.mod, params)

		s.mu.Lock()
		s.count.Finit += res.Calls
		s.count.Duplicates += res.Duplicates
		s.end(r, outcome(res.Err), res.Err)
		s.start(1)
		s.unlock()
		s.mu.Lock()
	}
	s.workers--
	if s.draining && s.workers == 0 {
		close(s.quiet)
	}
	s.mu.Unlock()
}

// outcome is the state that a load with that error leads to.
func outcome(err error) State {
	switch {
	case err == nil:
		return Live
	case errors.Is(err, ErrRefused):
		return Refused
	}
	return Failed
}
