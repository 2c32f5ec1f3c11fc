package modload

import (
	"context"
	"strings"
	"sync"
	"time"

	"hapax/modload/modindex"
)

// An Index answers what a request stands for and what a module needs.
// *[modindex.Index] is the production one. Both methods may be called
// concurrently and must not block.
type Index interface {
	Lookup(query string) modindex.Hits
	Module(name string) (modindex.Module, bool)
}

// A LoadFunc inserts one module, whose hard dependencies are live, with the
// given parameters ("" for none). It may block for as long as the module's
// init function does. It is called from several goroutines, never twice at
// the same time for one module and never again for one that became live.
type LoadFunc func(m modindex.Module, params string) Result

// A Result is what became of one LoadFunc call.
type Result struct {
	Err        error // nil: live. Wraps ErrRefused: the init function said no. Else: failed.
	Calls      int   // finit_module calls that were made
	Duplicates int   // those of them that the kernel answered with EEXIST, EBUSY or ETXTBSY

	// Again says that the loads that are under way may be the cause of Err. The
	// Scheduler calls once more when they have ended; it does so once per module,
	// and otherwise Err stands.
	Again bool
}

// Options configure a Scheduler. Index and Load are required.
type Options struct {
	Index  Index
	Config *modindex.Config // blacklists and what is denied; nil: none
	Load   LoadFunc

	// Params returns the parameters of a module that query, a name or an alias,
	// reached; query is "" for a hard dependency. nil: Config.Options.
	// (*modindex.View).Options is the production one.
	Params func(name, query string) string

	// Workers bounds the loads that run at one time; 0 means DefaultWorkers. A
	// load that takes more than 10 s does not count any more.
	Workers int

	// Present names the modules that the kernel has already.
	Present []string

	// Ended, if not nil, is told of each module that went live, was refused or
	// failed. Idle, if not nil, is told each time that nothing is waiting,
	// queued or inserting any more. Slow, if not nil, is told of each module
	// whose load has run for 10 s. All are called without the table's lock, from
	// any goroutine, possibly several at once, and must not block.
	Ended func(Module)
	Idle  func()
	Slow  func(Module)
}

// A Scheduler brings modules into the kernel, each exactly once, whoever asks
// and however often. At most Workers loads run at a time; a module starts when
// its hard dependencies are live and its soft ones have ended.
//
// All methods may be called concurrently. A Scheduler must not be copied. Its
// goroutines end when there is nothing left to load.
type Scheduler struct {
	opt   Options
	epoch time.Time // times in the report count from here

	mu       sync.Mutex // guards everything below; never held across a load or a callback
	table    map[string]*record
	aliases  map[string]struct{} // modaliases that were resolved before
	fresh    []*record           // entered by the call that holds mu, not yet started
	planned  int                 // how many of fresh have their soft dependencies
	ended    []*record           // ended since mu was taken, not yet told to Options.Ended
	queue    queue
	workers  int           // goroutines that load, but for the slow ones
	loading  int           // loads that the kernel has begun
	hung     int           // of these, the slow ones
	again    []*record     // Waiting for all loads but the slow ones to end
	pending  int           // records that have not ended
	pass     uint32        // grows each time pending returns to 0
	mark     uint32        // generation of the reachability search
	idle     chan struct{} // closed when pending returns to 0; nil if nobody waits
	idleDue  bool          // pending has returned to 0, Options.Idle not called yet
	draining bool
	quiet    chan struct{} // closed when draining and no load is left
	count    Counters
}

// New returns a Scheduler whose table holds o.Present.
func New(o Options) *Scheduler {
	if o.Config == nil {
		o.Config = new(modindex.Config)
	}
	if o.Params == nil {
		o.Params = func(name, _ string) string { return o.Config.Options(name) }
	}
	if o.Workers <= 0 {
		o.Workers = DefaultWorkers()
	}
	s := &Scheduler{
		opt:     o,
		epoch:   time.Now(),
		table:   make(map[string]*record, 128),
		aliases: make(map[string]struct{}, 256),
		pass:    1,
	}
	for _, name := range o.Present {
		name = modindex.Normalize(name)
		s.table[name] = &record{
			mod:    modindex.Module{Name: name},
			state:  Live,
			origin: Origin{Kind: Present},
		}
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
	_, seen := s.aliases[modalias]
	if seen && o.Kind != Uevent {
		s.count.Coalesced++
		s.mu.Unlock()
		return
	}
	if len(s.aliases) >= maxAliases {
		clear(s.aliases)
	}
	if !seen {
		// The caller's string may be a piece of a whole uevent.
		s.aliases[strings.Clone(modalias)] = struct{}{}
	}
	s.mu.Unlock()

	// The look-up reads the index alone, so it needs no lock.
	hits := s.opt.Index.Lookup(modalias)

	s.mu.Lock()
	if !s.draining { // Drain may have come during the look-up
		s.admit(modalias, hits, o, true)
		s.start(0)
	}
	s.unlock()
}

// admit is the one door: every request ends up here with the modules that it
// stands for. It returns their records. The caller holds mu.
func (s *Scheduler) admit(query string, hits modindex.Hits, o Origin, blacklist bool) []*record {
	if len(hits.Names) == 0 {
		s.count.Unmatched++
		return nil
	}
	wanted := make([]*record, 0, len(hits.Names))
	work := false
	for _, name := range hits.Names {
		if blacklist && s.opt.Config.Blacklisted(name) {
			s.count.Blacklisted++
			continue
		}
		r, isNew := s.want(name, query, o)
		wanted = append(wanted, r)
		work = work || isNew
	}
	if !work && len(wanted) > 0 {
		s.count.Coalesced++
	}
	return wanted
}

// Load asks for query, a module name or an alias such as "fs-ext4" as
// modprobe(8) takes it, and waits until all it stands for has ended or ctx is
// done. It returns nil if everything is usable, ErrNotFound if the index knows
// no such name, the error of ctx, or a *LoadError for the first module of the
// query that is not live. A module that is reached by its own name is loaded
// even if it is blacklisted, as by modprobe.
func (s *Scheduler) Load(ctx context.Context, query string) error {
	hits := s.opt.Index.Lookup(query)

	s.mu.Lock()
	s.count.Requests++
	if s.draining {
		s.mu.Unlock()
		return ErrDraining
	}
	wanted := s.admit(query, hits, Origin{Kind: Named, By: query}, hits.ByAlias)
	s.start(0)
	waits := make([]<-chan struct{}, len(wanted))
	for i, r := range wanted {
		waits[i] = r.wait()
	}
	s.unlock()

	if len(hits.Names) == 0 {
		return &LoadError{Module: query, Op: "look up", Err: ErrNotFound}
	}
	var first error
	for i, r := range wanted {
		select {
		case <-waits[i]:
		case <-ctx.Done():
			return ctx.Err()
		}
		s.mu.Lock()
		if first == nil && !r.state.usable() {
			first = r.err
		}
		s.mu.Unlock()
	}
	return first
}

// Announce tells that the kernel has sent the add event of a module, that is,
// the module's init function has succeeded. The load itself may go on for long,
// for it ends by waiting for all asynchronous probing of the machine;
// dependants need not wait for that. Other names are passed over.
func (s *Scheduler) Announce(name string) {
	s.mu.Lock()
	if r := s.table[modindex.Normalize(name)]; r != nil && r.state == Inserting && !r.early {
		r.early = true
		s.release(r, true)
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

// Drain ends the Scheduler: nothing more is started, and Drain waits for the
// loads that the kernel has begun. It returns the names of those that were
// still running when ctx ended. Waiters of modules that were never started are
// released with ErrDraining; a load that was to be tried again keeps its first
// answer. A second call joins the first.
func (s *Scheduler) Drain(ctx context.Context) []string {
	s.mu.Lock()
	if !s.draining {
		s.draining = true
		s.quiet = make(chan struct{})
		for _, r := range s.again {
			s.end(r, outcome(r.err), r.err)
		}
		s.again, s.queue = nil, queue{}
		for _, r := range s.table {
			if r.state == Waiting || r.state == Queued {
				s.abandon(r)
			}
		}
		if s.loading == 0 {
			close(s.quiet)
		}
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
	for name, r := range s.table {
		if r.state == Inserting {
			running = append(running, name)
		}
	}
	return running
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
