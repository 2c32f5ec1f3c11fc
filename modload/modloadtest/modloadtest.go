// Package modloadtest provides a kernel and an index that exist in memory, for
// tests of what stands on package modload.
package modloadtest

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/modload"
	"hapax/modload/modindex"
)

// An Index is a module index made of plain maps. It is not to be changed once
// a Scheduler uses it.
type Index struct {
	Modules map[string]modindex.Module
	Aliases map[string][]string // exact alias -> module names
}

// Lookup answers as the index of a real tree does, but for patterns.
func (x *Index) Lookup(query string) modindex.Hits {
	if name := modindex.Normalize(query); x.has(name) {
		return modindex.Hits{Names: []string{name}}
	}
	return modindex.Hits{Names: x.Aliases[query], ByAlias: true}
}

func (x *Index) has(name string) bool { _, ok := x.Modules[name]; return ok }

// Module returns the module of that name.
func (x *Index) Module(name string) (modindex.Module, bool) {
	m, ok := x.Modules[name]
	return m, ok
}

// Add enters a module with its direct and indirect hard dependencies.
func (x *Index) Add(name string, deps ...string) *Index {
	if x.Modules == nil {
		x.Modules, x.Aliases = map[string]modindex.Module{}, map[string][]string{}
	}
	x.Modules[name] = modindex.Module{Name: name, Path: "kernel/" + name + ".ko", Deps: deps}
	return x
}

// Soft sets the softdep queries of a module that is there already.
func (x *Index) Soft(name string, pre, post []string) *Index {
	m := x.Modules[name]
	m.Pre, m.Post = pre, post
	x.Modules[name] = m
	return x
}

// A Kernel stands in for finit_module. It fails the test when it is asked for
// something that no correct scheduler asks: a module twice, or one whose hard
// dependencies are not live.
type Kernel struct {
	t testing.TB

	mu      sync.Mutex
	errs    map[string]error
	once    map[string]error
	delays  map[string]time.Duration
	live    map[string]modindex.Module
	busy    map[string]bool // being inserted or removed
	leaving map[string]bool // being removed
	log     []string
	params  map[string]string
	running int
	peak    int
}

// NewKernel returns a Kernel that has no module and accepts every one at once.
func NewKernel(t testing.TB) *Kernel {
	return &Kernel{
		t:       t,
		errs:    map[string]error{},
		once:    map[string]error{},
		delays:  map[string]time.Duration{},
		live:    map[string]modindex.Module{},
		busy:    map[string]bool{},
		leaving: map[string]bool{},
		params:  map[string]string{},
	}
}

// Fail makes the load of a module end with err; nil makes it succeed again.
func (k *Kernel) Fail(name string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.errs[name] = err
}

// Starve makes the next load of a module end with err and the wish to be tried
// again.
func (k *Kernel) Starve(name string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.once[name] = err
}

// Delay makes the init function of a module take d.
func (k *Kernel) Delay(name string, d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.delays[name] = d
}

// Load is a modload.LoadFunc.
func (k *Kernel) Load(j modload.Job) modload.Result {
	m, params := j.Module, j.Params
	k.mu.Lock()
	k.log = append(k.log, m.Name)
	k.params[m.Name] = params
	if k.has(m.Name) || k.busy[m.Name] {
		k.t.Errorf("%s is inserted a second time", m.Name)
	}
	for _, d := range m.Deps {
		if !k.has(d) || k.leaving[d] {
			k.t.Errorf("%s is inserted while its dependency %s is not live", m.Name, d)
		}
	}
	k.busy[m.Name] = true
	k.running++
	k.peak = max(k.peak, k.running)
	d := k.delays[m.Name]
	k.mu.Unlock()

	time.Sleep(d)

	k.mu.Lock()
	defer k.mu.Unlock()
	k.running--
	delete(k.busy, m.Name)
	if err := k.once[m.Name]; err != nil {
		delete(k.once, m.Name)
		return modload.Result{Err: err, Calls: 1, Again: true}
	}
	err := k.errs[m.Name]
	if err == nil {
		k.live[m.Name] = m
	}
	return modload.Result{Err: err, Calls: 1}
}

// Unload is the counterpart of Load, for Options. It answers as the kernel does
// to a module that it does not have, or that another one uses.
func (k *Kernel) Unload(name string, _ int) error {
	k.mu.Lock()
	if k.busy[name] {
		k.t.Errorf("%s is removed while it is inserted or removed", name)
	}
	if !k.has(name) {
		k.mu.Unlock()
		return unix.ENOENT
	}
	for _, user := range k.live {
		if slices.Contains(user.Deps, name) {
			k.mu.Unlock()
			return unix.EWOULDBLOCK
		}
	}
	k.busy[name], k.leaving[name] = true, true
	d := k.delays[name]
	k.mu.Unlock()

	time.Sleep(d)

	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.busy, name)
	delete(k.leaving, name)
	delete(k.live, name)
	return nil
}

func (k *Kernel) has(name string) bool { _, ok := k.live[name]; return ok }

// Put makes a module live without a Load, as another loader would.
func (k *Kernel) Put(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.live[name] = modindex.Module{Name: name}
}

// Live returns the names of the modules that the kernel has, sorted.
func (k *Kernel) Live() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(maps.Keys(k.live))
}

// Log returns the names that were loaded, in order of their start.
func (k *Kernel) Log() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.log)
}

// Params returns the parameters that a module was loaded with.
func (k *Kernel) Params(name string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.params[name]
}

// Peak returns the highest number of loads that ran at one time.
func (k *Kernel) Peak() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.peak
}
