package modload

import (
	"context"
	"errors"
	"strings"
	"time"

	"hapax/modload/modindex"
)

// A Call is a request whose asker waits for the answer.
type Call struct {
	// Query is a module name, an alias such as "fs-ext4", or, if it begins with
	// a slash, the path of a module file, which needs no index.
	Query string

	// Origin says who asks. A call of Kind Upcall holds a thread of the kernel:
	// no limit on the number of loads applies to what it needs, it is answered
	// as soon as the module is usable, and after Options.Patience in any case.
	Origin Origin

	Blacklist     bool   // leave blacklisted modules out that are reached by name, too
	IgnoreInstall bool   // load what Query names itself, not by its install command
	Again         bool   // try what refused or failed before once more: a person asks
	Params        string // added to the configured parameters of what Query names
	Flags         int    // of finit_module(2), for what Query names: MODULE_INIT_IGNORE_*

	// Asker names the module whose init function or install command waits for
	// the answer, "" if there is none or it is not known. The answer never waits
	// for its asker; a module that could only be loaded after it ends the call
	// with ErrLoop at once, and is loaded when the asker has ended.
	Asker string
}

// express reports whether something that has a place among the loads waits
// for the answer, so that the call must not wait for a place itself.
func (c *Call) express() bool { return c.Origin.Kind == Upcall || c.Asker != "" }

// An Outcome is what became of one module that a Call stands for.
type Outcome struct {
	Module string
	State  State
	New    bool  // it was not usable before the call
	Err    error // nil if it is usable, else a *LoadError
}

// A call is a Call under way.
type call struct {
	Call
	asker *record // nil if none is known
	waits []*wait
}

// A wait is a call's interest in one module.
type wait struct {
	name   string
	r      *record // nil if the configuration leaves the module out
	isNew  bool
	done   <-chan struct{}
	broken chan struct{} // closed if the wait would close a circle
}

// Do asks for what c names and waits until all of that has ended or ctx is
// done. The outcomes are in the order of the index; by modprobe(8)'s rules the
// last one is the answer. The error is a *LoadError with ErrNotFound if the
// index knows no such name, ErrDraining, or that of ctx. What the call has set
// in motion goes on when ctx ends.
func (s *Scheduler) Do(ctx context.Context, c Call) ([]Outcome, error) {
	var hits modindex.Hits
	if !strings.HasPrefix(c.Query, "/") {
		hits = s.catalog.Load().index.Lookup(c.Query)
	}
	s.mu.Lock()
	s.countCall(&c)
	if s.draining && (!c.express() || s.loading == 0) {
		s.mu.Unlock()
		return nil, ErrDraining
	}
	q := s.place(c, hits)
	s.start(0)
	if c.express() && len(q.waits) > 0 { // outcomes takes it off the list
		s.enlist(q)
	}
	s.unlock()
	if len(q.waits) == 0 {
		return nil, &LoadError{Module: c.Query, Op: "look up", Err: ErrNotFound}
	}
	if c.Origin.Kind == Upcall {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.opt.Patience, ErrOverdue)
		defer cancel()
	}
	return s.outcomes(ctx, q)
}

// Load is Do for the engine's own needs: nil if all that query stands for is
// usable, else the first error. A module that is reached by its own name is
// loaded even if it is blacklisted, as by modprobe.
func (s *Scheduler) Load(ctx context.Context, query string) error {
	outcomes, err := s.Do(ctx, Call{Query: query, Origin: Origin{Kind: Named, By: query}})
	for _, o := range outcomes {
		if err == nil && !errors.Is(o.Err, ErrBlacklisted) {
			err = o.Err
		}
	}
	return err
}

// place enters what c names into the table.
func (s *Scheduler) place(c Call, hits modindex.Hits) *call {
	q := &call{Call: c}
	o := orders{query: c.Query, origin: c.Origin, again: c.Again, direct: c.IgnoreInstall, params: c.Params, flags: c.Flags}
	o.haste = urgentHaste
	if c.express() {
		o.haste = expressHaste
	}
	if strings.HasPrefix(c.Query, "/") {
		o.file = &modindex.Module{Name: modindex.Normalize(modindex.NameOf(c.Query)), Path: c.Query}
		hits = modindex.Hits{Names: []string{o.file.Name}}
	}
	for _, h := range s.admit(hits, o, hits.ByAlias || c.Blacklist) {
		w := &wait{name: h.name, r: h.r, isNew: h.isNew}
		if h.r != nil {
			if w.done = h.r.wait(); c.Origin.Kind == Upcall {
				w.done = h.r.rise()
			}
		}
		q.waits = append(q.waits, w)
	}
	return q
}

// outcomes waits for the end of q.
func (s *Scheduler) outcomes(ctx context.Context, q *call) ([]Outcome, error) {
	var out []Outcome
	var over error // ctx's
	for _, w := range q.waits {
		switch {
		case w.r == nil:
			err := &LoadError{Module: w.name, Op: "check", Err: ErrBlacklisted}
			out = append(out, Outcome{Module: w.name, State: Failed, Err: err})
			continue
		case over == nil:
			select {
			case <-w.done:
			case <-w.broken:
			case <-ctx.Done():
				over = context.Cause(ctx)
			}
		}
		out = append(out, s.outcome(w, over))
	}
	if q.express() {
		s.dismiss(q, over)
	}
	if over != nil && !errors.Is(over, ErrOverdue) {
		return nil, over
	}
	return out, nil
}

// outcome tells what w has come to; over is why it is not waited for any more.
func (s *Scheduler) outcome(w *wait, over error) Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := Outcome{Module: w.name, State: w.r.state, New: w.isNew}
	select {
	case <-w.done:
		if !w.r.state.usable() && !w.r.early {
			o.Err = w.r.err
		}
		return o
	default:
	}
	if over == nil {
		over = ErrLoop
	}
	o.Err = &LoadError{Module: w.name, Op: "wait", Err: over}
	return o
}

// countCall counts a call when it comes in.
func (s *Scheduler) countCall(c *Call) {
	s.count.Requests++
	if c.Origin.Kind == Upcall {
		s.count.Upcalls++
	}
}

// DefaultPatience is how long a request of the kernel is held up at most. The
// kernel itself waits as long for a module that another one needs.
const DefaultPatience = 30 * time.Second
