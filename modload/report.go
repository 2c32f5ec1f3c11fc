package modload

import (
	"cmp"
	"slices"
	"time"

	"hapax/modload/modindex"
)

// Counters count what happened since New. They are not derived from the
// table: a refused module that was retried has two Finit calls.
type Counters struct {
	Requests    int `json:"requests"`    // calls of Request and Do
	Coalesced   int `json:"coalesced"`   // of these, answered by what the table held already
	Unmatched   int `json:"unmatched"`   // of these, for which the index has no module
	Blacklisted int `json:"blacklisted"` // modules left out because of modprobe.blacklist=
	Finit       int `json:"finit"`       // finit_module calls
	Live        int `json:"live"`        // modules that a call brought in
	Refused     int `json:"refused"`     // modules whose init function said no
	Failed      int `json:"failed"`      // modules that cannot be loaded, dependants of such included
	Duplicates  int `json:"duplicates"`  // calls answered with EBUSY, ETXTBSY, or EEXIST by a module that was there
	Retried     int `json:"retried"`     // refused modules tried again for a new device
	Abandoned   int `json:"abandoned"`   // modules that Drain came before
	Removed     int `json:"removed"`     // modules that Remove has taken out
	Commands    int `json:"commands"`    // install commands that were run to a good end

	Upcalls          int `json:"upcalls"`           // requests of the kernel itself
	UpcallsCoalesced int `json:"upcalls_coalesced"` // of these, answered by what the table held already
	Loops            int `json:"loops"`             // waits that were broken off because they led back to their asker
	Overdue          int `json:"overdue"`           // requests of the kernel that were given up after Options.Patience
}

// A Module is one line of the report.
type Module struct {
	Name    string  `json:"name"`
	State   State   `json:"state"`
	Origin  Origin  `json:"origin"`            // who asked first
	Query   string  `json:"query,omitempty"`   // the alias or name that reached it; "" for a hard dependency
	Command string  `json:"command,omitempty"` // the install command that was run in its place
	Asked   int     `json:"asked"`             // requests that named it
	Error   string  `json:"error,omitempty"`
	Queued  float64 `json:"queued_ms"` // first asked for, in milliseconds since New
	Begun   float64 `json:"begun_ms"`  // handed to the kernel; 0 if it never was
	Ended   float64 `json:"ended_ms"`
	Size    int64   `json:"size,omitempty"` // bytes that it takes in the kernel; whoever reports fills it in, see ReadSizes
}

// Counters returns the counts so far.
func (s *Scheduler) Counters() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Pending returns how many modules are waiting, queued or inserting.
func (s *Scheduler) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending
}

// Module returns what the table holds about one module; an install command goes
// before the module itself unless that is live.
func (s *Scheduler) Module(name string) (Module, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(modindex.Normalize(name), false)
	if r == nil {
		return Module{}, false
	}
	return r.report(s.epoch), true
}

// Modules returns what the table holds, in the order in which the modules
// ended; those that were there before New, or are part of the kernel, and
// were never asked for are left out.
func (s *Scheduler) Modules() []Module {
	s.mu.Lock()
	records := make([]*record, 0, len(s.table))
	for r := range s.records() {
		if r.origin.Kind != Present || r.asked > 0 {
			records = append(records, r)
		}
	}
	slices.SortFunc(records, func(a, b *record) int {
		return cmp.Or(a.finished.Compare(b.finished), cmp.Compare(a.mod.Name, b.mod.Name))
	})
	out := make([]Module, len(records))
	for i, r := range records {
		out[i] = r.report(s.epoch)
	}
	s.mu.Unlock()
	return out
}

func (r *record) report(epoch time.Time) Module {
	m := Module{
		Name:    r.mod.Name,
		State:   r.state,
		Origin:  r.origin,
		Query:   r.query,
		Command: r.command,
		Asked:   r.asked,
		Queued:  since(epoch, r.entered),
		Begun:   since(epoch, r.begun),
		Ended:   since(epoch, r.finished),
	}
	if r.err != nil {
		m.Error = r.err.Error()
	}
	return m
}

// since is t in milliseconds after epoch, 0 for the zero time.
func since(epoch, t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Sub(epoch).Microseconds()) / 1000
}

// tally counts a record that has ended.
func (s *Scheduler) tally(r *record) { *s.counter(r)++ }

// uncount takes back what tally counted, for a record that is tried again.
func (s *Scheduler) uncount(r *record) { *s.counter(r)-- }

func (s *Scheduler) counter(r *record) *int {
	switch {
	case r.state == Live && r.command != "":
		return &s.count.Commands
	case r.state == Live:
		return &s.count.Live
	case r.state == Refused:
		return &s.count.Refused
	}
	return &s.count.Failed
}
