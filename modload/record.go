package modload

import (
	"slices"
	"strings"
	"time"

	"hapax/modload/modindex"
)

// A record is what the Scheduler knows of one module, or of the install command
// that stands for one. All fields are guarded by Scheduler.mu; mod and command
// do not change while it is Inserting.
type record struct {
	mod     modindex.Module
	command string // to be run in place of a load; "" for a module itself
	orders         // of who asked first, as far as they count for the load

	state      State
	err        error   // why it is Refused or Failed, or is tried again
	root       string  // the module that failed first, if a dependency's failure is the reason
	kernel     string  // what the kernel calls it, if that differs
	asked      int     // requests that named it, dependants included
	pass       uint32  // the pass in which it was last tried
	generation uint32  // of the index that mod is from
	early      bool    // Inserting, but the kernel has said that it is live
	placed     bool    // Inserting in a place among the workers
	slow       bool    // Inserting for so long that it has lost that place
	second     bool    // has had the second try that Result.Again asks for, or is waiting for it
	wanted     *orders // Removing, and to be loaded again after that

	// Edges of a record that is Waiting. The counts say how many dependencies
	// have not ended; the lists are the same edges from the other end.
	hard, soft int
	needs      []edge
	hardUsers  []*record // to be released or failed with this one
	softUsers  []*record // to be released, whatever becomes of this one

	planning bool   // its dependencies are being entered further up the stack
	mark     uint32 // generation in which a search through the graph saw it

	entered, begun, finished time.Time

	done chan struct{} // closed when it ends; made by the first waiter
	up   chan struct{} // closed when it is usable or ends; made by the first waiter
}

// orders are what a request says about the modules that it names.
type orders struct {
	query  string // the name or alias; "" for a hard dependency
	origin Origin
	haste  haste
	again  bool             // try what refused or failed before
	direct bool             // pass over install commands
	params string           // added to the configured ones
	flags  int              // of finit_module
	file   *modindex.Module // takes the place of what the index says
}

// keep returns o for a record, which may live longer than the uevent that the
// strings are pieces of.
func (o orders) keep() orders {
	o.query, o.origin.By = strings.Clone(o.query), strings.Clone(o.origin.By)
	return o
}

// foreignGeneration marks a record that no index has been asked about.
const foreignGeneration = ^uint32(0)

// presentRecord is the record of a module that the kernel had before.
func presentRecord(name string) *record {
	return &record{
		mod:        modindex.Module{Name: name},
		state:      Live,
		orders:     orders{origin: Origin{Kind: Present}},
		generation: foreignGeneration,
	}
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

// rise returns a channel that is closed once r is usable or has ended.
func (r *record) rise() <-chan struct{} {
	if r.up == nil {
		r.up = make(chan struct{})
		if r.state.Ended() || r.early {
			close(r.up)
		}
	}
	return r.up
}

// risen closes the channel of rise.
func (r *record) risen() {
	if r.up != nil && !r.early {
		close(r.up)
	}
	r.early = true
}

// conclude gives r its final state and wakes who waits for it.
func (r *record) conclude(state State, err error) {
	r.risen()
	r.early = false
	r.state, r.err = state, err
	r.letGo()
	if r.done != nil {
		close(r.done)
	}
}

// letGo takes r out of the lists of what it does not wait for any more: it may
// be put to work again before they end.
func (r *record) letGo() {
	isR := func(u *record) bool { return u == r }
	for _, e := range r.needs {
		if e.soft {
			e.to.softUsers = slices.DeleteFunc(e.to.softUsers, isR)
		} else {
			e.to.hardUsers = slices.DeleteFunc(e.to.hardUsers, isR)
		}
	}
	r.needs = nil
}

// reopen makes an ended record one that can be waited for again.
func (r *record) reopen() { r.done, r.up, r.early = nil, nil, false }

// kernelName is the name under which the kernel has the module.
func (r *record) kernelName() string {
	if r.kernel != "" {
		return r.kernel
	}
	return r.mod.Name
}
