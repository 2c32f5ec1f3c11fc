package modload

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hapax/modload/modindex"
)

// An Index answers what a request stands for and what a module needs.
// *[modindex.View] is the production one. Both methods may be called
// concurrently and must not block.
type Index interface {
	Lookup(query string) modindex.Hits
	Module(name string) (modindex.Module, bool)
}

// A Job is one module to insert.
type Job struct {
	Module  modindex.Module // its hard dependencies are live
	Params  string          // "" for none
	Flags   int             // MODULE_INIT_IGNORE_*
	Express bool            // a thread of the kernel waits for it: nothing may hold it up
}

// A LoadFunc inserts one module. It may block for as long as the module's
// init function does. It is called from several goroutines, never twice at
// the same time for one module and never again for one that became live and
// was not removed.
type LoadFunc func(Job) Result

// A Result is what became of one LoadFunc call.
type Result struct {
	Err        error // nil: live. Wraps ErrRefused: the init function said no. Else: failed.
	Calls      int   // finit_module calls that were made
	Duplicates int   // those of them that the kernel answered with EBUSY, ETXTBSY, or EEXIST by a module that was there

	// Again says that the loads that are under way may be the cause of Err. The
	// Scheduler calls once more when they have ended; it does so once per module,
	// and otherwise Err stands.
	Again bool

	// Name is what the kernel calls the module, if that is not what its file is
	// called and has come to light; else "".
	Name string
}

// Options configure a Scheduler. Index and Load are required.
type Options struct {
	Index  Index
	Config *modindex.Config // blacklists and what is denied; nil: none

	// Params returns the parameters of a module that query, a name or an alias,
	// reached; query is "" for a hard dependency. nil: Config.Options.
	// (*modindex.View).Options is the production one.
	Params func(name, query string) string

	Load LoadFunc

	// Unload removes a module, as delete_module(2) does, whose errno it returns.
	// nil: Remove answers ErrBarred.
	Unload func(name string, flags int) error

	// Run runs an install command for a module and waits for its end. nil: such
	// modules fail with ErrInstall.
	Run func(module, command string) error

	// Workers bounds the loads that run at one time; 0 means DefaultWorkers. A
	// load that takes more than 10 s does not count any more, nor does one that
	// a request of the kernel waits for.
	Workers int

	// Present names the modules that the kernel has already.
	Present []string

	// Patience bounds how long a Call of Kind Upcall waits; 0 means
	// DefaultPatience.
	Patience time.Duration

	// Asking reports whether the init function of a module that is being inserted
	// waits for a request of its own. It is needed only where Call.Asker cannot be
	// filled in, and is nil elsewhere.
	Asking func(module string) bool

	// Ended, if not nil, is told of each module that went live, was refused,
	// failed or was removed. Idle, if not nil, is told each time that nothing is
	// waiting, queued or inserting any more. Slow, if not nil, is told of each
	// module whose load has run for 10 s. Unmatched, if not nil, is told of each
	// modalias of a device for which the index has no module. All are called
	// without the table's lock, from any goroutine, possibly several at once, and
	// must not block.
	Ended     func(Module)
	Idle      func()
	Slow      func(Module)
	Unmatched func(modalias string, o Origin)
}

// A Scheduler brings modules into the kernel, each exactly once, whoever asks
// and however often. At most Workers loads run at a time; a module starts when
// its hard dependencies are live and its soft ones have ended.
//
// All methods may be called concurrently. A Scheduler must not be copied. Its
// goroutines end when there is nothing left to load.
type Scheduler struct {
	opt     Options
	epoch   time.Time // times in the report count from here
	catalog atomic.Pointer[catalog]

	mu         sync.Mutex               // guards everything below; never held across a load or a callback
	table      map[string]*record       // by the name of the file and, if that differs, of the kernel
	commands   map[string]*record       // install commands, by the name of the module that they stand for
	aliases    map[string]modindex.Hits // of the modaliases that were looked up before
	fresh      []*record                // entered by the call that holds mu, not yet started
	planned    int                      // how many of fresh have their soft dependencies
	ended      []*record                // ended since mu was taken, not yet told to Options.Ended
	queue      queue
	workers    int           // goroutines that load, but for the slow ones
	express    int           // goroutines that load what holds a request of the kernel
	loading    int           // loads that the kernel has begun
	hung       int           // of these, the slow ones
	again      []*record     // Waiting for all loads but the slow ones to end
	pending    int           // records that have not ended
	pass       uint32        // grows each time that nothing is pending any more
	generation uint32        // grows with each Reload
	mark       uint32        // generation of a search through the graph
	calls      []*call       // express ones that wait, the youngest last
	tick       *time.Timer   // runs lookForCircles; nil if it is not due
	suspect    *call         // what lookForCircles will break off if nothing moves
	brisk      int           // looks for circles that come sooner than usual
	idle       chan struct{} // closed when pending returns to 0; nil if nobody waits
	idleDue    bool          // pending has returned to 0, nobody was told yet
	draining   bool
	quiet      chan struct{} // closed when draining and no load is left
	isQuiet    bool
	count      Counters
}

// New returns a Scheduler whose table holds o.Present.
func New(o Options) *Scheduler {
	if o.Workers <= 0 {
		o.Workers = DefaultWorkers()
	}
	if o.Patience <= 0 {
		o.Patience = DefaultPatience
	}
	s := &Scheduler{
		opt:      o,
		epoch:    time.Now(),
		table:    make(map[string]*record, 128),
		commands: map[string]*record{},
		aliases:  make(map[string]modindex.Hits, 256),
		pass:     1,
	}
	s.catalog.Store(newCatalog(o.Index, o.Config, o.Params))
	for _, name := range o.Present {
		name = modindex.Normalize(name)
		s.table[name] = presentRecord(name)
	}
	return s
}

// maxAliases bounds the memory that distinct modaliases can take. Beyond it
// the set starts anew, which costs another look-up per alias and nothing else.
const maxAliases = 1 << 16

// Request asks for every module that modalias names on behalf of a device and
// returns without waiting. It applies modprobe.blacklist= as udev does.
// Unknown aliases are counted and are not an error: most devices of a machine
// need no module.
//
// A module that refused before is tried once more if o is a Uevent and the
// Scheduler has been idle since, for then the device is a new one. The devices
// of one coldplug pass share one answer.
func (s *Scheduler) Request(modalias string, o Origin) {
	s.mu.Lock()
	s.count.Requests++
	if s.draining {
		s.mu.Unlock()
		return
	}
	hits, seen := s.aliases[modalias]
	switch {
	case !seen:
		hits = s.resolve(modalias)
	case o.Kind != Uevent:
		s.count.Coalesced++
		s.mu.Unlock()
		return
	}
	if !s.draining { // Drain may have come during the look-up
		s.admit(hits, orders{query: modalias, origin: o, haste: requestHaste(o.Kind)}, true)
		s.start(0)
	}
	s.unlock()
	if len(hits.Names) == 0 && s.opt.Unmatched != nil && o.Kind != Named {
		s.opt.Unmatched(modalias, o)
	}
}

// resolve looks up a modalias and keeps the answer. It releases mu meanwhile: the
// look-up reads the index alone.
func (s *Scheduler) resolve(modalias string) modindex.Hits {
	generation := s.generation
	s.mu.Unlock()
	hits := s.catalog.Load().index.Lookup(modalias)
	s.mu.Lock()
	if generation == s.generation {
		if len(s.aliases) >= maxAliases {
			clear(s.aliases)
		}
		// The caller's string may be a piece of a whole uevent.
		s.aliases[strings.Clone(modalias)] = hits
	}
	return hits
}

// A hit is a module that a request stands for; r is nil if it is blacklisted.
type hit struct {
	name  string
	r     *record
	isNew bool
}

// admit is the one door: every request ends up here with the modules that it
// stands for. The caller holds mu and calls start afterwards.
func (s *Scheduler) admit(hits modindex.Hits, o orders, blacklist bool) []hit {
	if len(hits.Names) == 0 {
		s.count.Unmatched++
		return nil
	}
	wanted := make([]hit, 0, len(hits.Names))
	work, met := false, false
	for _, name := range hits.Names {
		if blacklist && s.catalog.Load().config.Blacklisted(name) {
			s.count.Blacklisted++
			wanted = append(wanted, hit{name: name})
			continue
		}
		r, isNew := s.want(name, o)
		wanted = append(wanted, hit{name, r, isNew})
		work, met = work || isNew, true
	}
	if !work && met {
		s.count.Coalesced++
		if o.origin.Kind == Upcall {
			s.count.UpcallsCoalesced++
		}
	}
	return wanted
}

// Announce tells that the kernel has sent the add event of a module, that is,
// the module's init function has succeeded. The load itself may go on for long,
// for it ends by waiting for all asynchronous probing of the machine;
// dependants and requests of the kernel need not wait for that. Other names are
// passed over.
func (s *Scheduler) Announce(name string) {
	s.mu.Lock()
	if r := s.table[modindex.Normalize(name)]; r != nil && r.state == Inserting && !r.early {
		s.rises(r)
		s.start(0)
	}
	s.unlock()
}

// Settle waits until no module is waiting, queued or inserting, or ctx is
// done. It returns at once if that is so already.
func (s *Scheduler) Settle(ctx context.Context) error {
	s.mu.Lock()
	if s.pending == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle := s.idle
	s.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unlock releases mu and then makes the callbacks that are due.
func (s *Scheduler) unlock() {
	var told []Module
	if s.opt.Ended != nil {
		for _, r := range s.ended {
			told = append(told, r.report(s.epoch))
		}
	}
	s.ended = s.ended[:0]
	idle := false
	if s.pending == 0 && s.idleDue {
		s.idleDue = false
		s.pass++
		if s.idle != nil {
			close(s.idle)
			s.idle = nil
		}
		idle = s.opt.Idle != nil
	}
	s.mu.Unlock()
	for _, m := range told {
		s.opt.Ended(m)
	}
	if idle {
		s.opt.Idle()
	}
}
