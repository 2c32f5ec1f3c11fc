package modload

import (
	"errors"
	"runtime"
	"time"

	"hapax/modload/modindex"
)

// DefaultWorkers is the number of loads that run at one time unless Options
// says otherwise: two per CPU, for an init function waits for its hardware more
// than it computes; at least 8, from where one CPU gains nothing by more
// and at most 16, for every load ends in work that the kernel does for one at a
// time, and 64 CPUs lose by more (docs/bench-loading.md).
func DefaultWorkers() int { return min(max(2*runtime.NumCPU(), 8), 16) }

// maxExpress bounds the loads beside those of the workers. The kernel makes at
// most 50 requests at a time, so each of them gets on.
const maxExpress = 64

// ready queues r if nothing holds it back any more.
func (s *Scheduler) ready(r *record) {
	if r.state != Waiting || r.hard != 0 || r.soft != 0 || r.planning {
		return
	}
	if r.haste == expressHaste && s.express < maxExpress {
		s.express++
		s.begin(r)
		go s.loadExpress(r)
		return
	}
	r.state = Queued
	s.queue.n++
	s.queue.push(r)
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
		s.begin(r)
		r.placed = true
		if slow := s.load(r); slow {
			// Another worker has taken the place of this one.
			s.mu.Unlock()
			return
		}
	}
	s.workers--
	s.mu.Unlock()
}

// loadExpress loads what no worker's place is waited for.
func (s *Scheduler) loadExpress(r *record) {
	s.mu.Lock()
	s.load(r)
	s.express--
	s.mu.Unlock()
}

// begin makes r one that the kernel has.
func (s *Scheduler) begin(r *record) {
	r.state, r.begun = Inserting, time.Now()
	s.loading++
}

// load hands r to the kernel and enters the answer. It reports whether that
// took so long that the caller's place among the workers was given away. The
// caller holds mu, which is released meanwhile.
func (s *Scheduler) load(r *record) (slow bool) {
	perform := s.job(r)
	s.mu.Unlock()

	alarm := time.AfterFunc(slowAfter, func() { s.overdue(r) })
	res := perform()
	alarm.Stop()

	s.mu.Lock()
	placed := r.placed && !r.slow // the caller goes on with the next in the queue
	slow = r.slow && r.placed
	if r.slow {
		s.hung--
	}
	r.slow, r.placed = false, false
	s.loading--
	s.count.Finit += res.Calls
	s.count.Duplicates += res.Duplicates
	if res.Name != "" && res.Name != r.mod.Name && s.table[res.Name] == nil {
		r.kernel, s.table[res.Name] = res.Name, r
	}
	if res.Again && !r.second && !r.early && !s.draining {
		r.state, r.err, r.second = Waiting, res.Err, true
		s.again = append(s.again, r)
	} else {
		s.end(r, outcome(res.Err), res.Err)
	}
	if placed {
		s.start(1)
	} else {
		s.start(0)
	}
	s.hush()
	s.unlock()
	s.mu.Lock()
	return slow
}

// job returns what brings r in. It does not touch r, which others may look at.
func (s *Scheduler) job(r *record) func() Result {
	name, query, extra, command := r.mod.Name, r.query, r.params, r.command
	params := s.catalog.Load().params
	j := Job{Module: r.mod, Flags: r.flags, Express: r.haste == expressHaste}
	if command == "" {
		return func() Result {
			j.Params = joined(params(name, query), extra)
			return s.opt.Load(j)
		}
	}
	if m := s.table[name]; m != nil && m.state.usable() {
		return func() Result { return Result{} } // loaded while the command waited
	}
	return func() Result {
		err := s.opt.Run(name, modindex.ExpandInstall(command, joined(params(name, query), extra)))
		if err != nil {
			err = &LoadError{Module: name, Op: "install command", Err: err}
		}
		return Result{Err: err}
	}
}

// joined returns both parts with a space between them, if there are two.
func joined(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + " " + b
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
	if r.placed {
		s.workers--
	}
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
