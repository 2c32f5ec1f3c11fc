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

// start queues the fresh records that wait for nothing, and those that are to
// be tried again if nothing else is left to do. It sees that there are workers
// for what is queued, but for the taken records that the caller is going to
// load itself.
func (s *Scheduler) start(taken int) {
	for _, r := range s.fresh {
		s.ready(r)
	}
	s.fresh, s.planned = s.fresh[:0], 0
	if s.loading == s.hung && s.queue.n == 0 {
		for _, r := range s.again {
			s.ready(r)
		}
		s.again = nil
	}
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
		slow := s.load(r)
		if slow {
			// Another worker has taken the place of this one.
			s.mu.Unlock()
			return
		}
	}
	s.workers--
	s.mu.Unlock()
}

// load hands r to the kernel and enters the answer. It reports whether that
// took so long that the caller's place among the workers was given away. The
// caller holds mu, which is released meanwhile.
func (s *Scheduler) load(r *record) (slow bool) {
	r.state, r.begun = Inserting, time.Now()
	s.loading++
	params := s.opt.Params(r.mod.Name, r.query)
	s.mu.Unlock()

	alarm := time.AfterFunc(slowAfter, func() { s.overdue(r) })
	res := s.opt.Load(r.mod, params)
	alarm.Stop()

	s.mu.Lock()
	slow, r.slow = r.slow, false
	s.loading--
	if slow {
		s.hung--
	}
	s.count.Finit += res.Calls
	s.count.Duplicates += res.Duplicates
	if res.Again && !r.again && !r.early && !s.draining {
		r.state, r.err, r.again = Waiting, res.Err, true
		s.again = append(s.again, r)
	} else {
		s.end(r, outcome(res.Err), res.Err)
	}
	if slow {
		s.start(0)
	} else {
		s.start(1)
	}
	if s.draining && s.loading == 0 {
		close(s.quiet)
	}
	s.unlock()
	s.mu.Lock()
	return slow
}

// slowAfter is how long an init function may take before somebody is told and
// its place is given to another module.
const slowAfter = 10 * time.Second

// overdue is called when the load of r has run for slowAfter.
func (s *Scheduler) overdue(r *record) {
	s.mu.Lock()
	if r.state != Inserting || r.slow {
		s.mu.Unlock()
		return
	}
	r.slow = true
	s.hung++
	s.workers--
	s.start(0)
	m := r.report(s.epoch)
	s.unlock()
	if s.opt.Slow != nil {
		s.opt.Slow(m)
	}
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
