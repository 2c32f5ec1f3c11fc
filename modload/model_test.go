package modload_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/modload"
	"hapax/modload/modindex"
	"hapax/modload/modloadtest"
)

// A model is what the documentation of the Scheduler says, for one request
// after the other, in the plainest form.
type model struct {
	world
	config *modindex.Config
	state  map[string]string
	root   map[string]string // of what failed because of another
	stale  map[string]bool   // the index has changed since
	tried  map[string]bool   // in this step
	calls  int
	fresh  []string // entered, and their softdep pre: not yet
	post   []string // live since the last look, and their softdep post: not yet entered
}

// enter does what can be said before anything is loaded.
func (m *model) enter(name string, again, retry bool) {
	switch st := m.state[name]; st {
	case "live", "pending":
		return
	case "refused", "failed":
		retry = retry && !m.tried[name] && m.retryable(name)
		if !m.stale[name] && !again && !retry {
			return
		}
	default:
		retry = false
	}
	if retry {
		for _, d := range m.index.Modules[name].Deps {
			if st := m.state[d]; st == "refused" || st == "failed" {
				m.enter(d, false, true)
			}
		}
	}
	m.state[name], m.stale[name], m.tried[name], m.root[name] = "pending", false, true, ""
	m.fresh = append(m.fresh, name)
	if _, denied := m.config.Denied(name); denied {
		m.state[name] = "failed"
		return
	}
	for _, d := range m.index.Modules[name].Deps {
		m.enter(d, again, false)
		if st := m.state[d]; st == "refused" || st == "failed" {
			m.fail(name, d)
			return
		}
	}
}

// request enters a module and then the soft dependencies of all that is new.
func (m *model) request(name string, again, retry bool) {
	m.enter(name, again, retry)
	m.enterSoft()
}

func (m *model) enterSoft() {
	for ; len(m.fresh) > 0; m.fresh = m.fresh[1:] {
		name := m.fresh[0]
		if m.state[name] != "pending" {
			continue
		}
		for _, q := range m.index.Modules[name].Pre {
			m.enter(q, false, false)
		}
	}
}

// retryable reports whether neither the module nor one that it needs has failed
// for a reason of its own.
func (m *model) retryable(name string) bool {
	return !slices.ContainsFunc(append([]string{name}, m.index.Modules[name].Deps...), func(d string) bool {
		return m.state[d] == "failed" && m.root[d] == ""
	})
}

func (m *model) fail(name, dep string) {
	m.state[name], m.root[name] = "failed", dep
	if root := m.root[dep]; root != "" {
		m.root[name] = root
	}
}

// run loads all that is pending.
func (m *model) run() {
	for moved := true; moved; {
		moved = false
		for _, name := range m.names {
			if m.state[name] == "pending" && m.load(name) {
				moved = true
			}
		}
		for len(m.post) > 0 {
			name := m.post[0]
			m.post = m.post[1:]
			for _, q := range m.index.Modules[name].Post {
				m.request(q, false, false)
				moved = true
			}
		}
	}
}

// load reports whether name has come to an end.
func (m *model) load(name string) bool {
	for _, d := range m.index.Modules[name].Deps {
		switch m.state[d] {
		case "live":
		case "pending":
			return false
		default:
			m.fail(name, d)
			return true
		}
	}
	m.calls++
	switch m.errs[name] {
	case nil:
		m.state[name] = "live"
		m.post = append(m.post, name)
	case error(unix.ENOEXEC):
		m.state[name] = "failed"
	default:
		m.state[name] = "refused"
	}
	return true
}

// remove reports whether the module goes.
func (m *model) remove(name string) bool {
	if m.state[name] != "live" {
		return false
	}
	for user, st := range m.state {
		if st == "live" && slices.Contains(m.index.Modules[user].Deps, name) {
			return false
		}
	}
	m.state[name] = "removed"
	return true
}

// reindex is another configuration for the same modules: what has failed may
// be asked for again.
func (m *model) reindex(r *rand.Rand) *modindex.Config {
	text := ""
	if r.IntN(2) == 0 {
		text = "hapax.deny=" + m.names[r.IntN(len(m.names))]
	}
	m.config = modindex.ParseCmdline(text)
	for name, st := range m.state {
		m.stale[name] = st == "refused" || st == "failed"
	}
	return m.config
}

// plainPosts leaves no softdep post: modules but those that need nothing: what
// another one enters in vain depends on what has ended by then.
func (w world) plainPosts() {
	for name, mod := range w.index.Modules {
		mod.Post = slices.DeleteFunc(mod.Post, func(q string) bool {
			return len(w.index.Modules[q].Deps)+len(w.index.Modules[q].Pre) > 0
		})
		w.index.Modules[name] = mod
	}
}

// modelSteps is how many steps TestModel takes; HAPAX_MODEL_STEPS overrules it.
func modelSteps(t *testing.T) int {
	if n, err := strconv.Atoi(os.Getenv("HAPAX_MODEL_STEPS")); err == nil {
		return n
	}
	if testing.Short() {
		return 50_000
	}
	return 1_000_000
}

// TestModel takes random steps, one after the other: requests of all kinds,
// removals, modules that begin to fail or cease to, changes of the index. After
// each, the kernel was called as often as the model says, and after some every
// module is in the state that it says.
func TestModel(t *testing.T) {
	t.Parallel()
	const perWorld = 2000
	worlds := uint64(max(modelSteps(t)/perWorld, 1))
	parts := uint64(runtime.GOMAXPROCS(0))
	for part := range parts {
		t.Run(fmt.Sprint("part=", part), func(t *testing.T) {
			t.Parallel()
			for seed := part; seed < worlds; seed += parts {
				walkModel(t, seed, perWorld)
			}
		})
	}
}

func walkModel(t *testing.T, seed uint64, steps int) {
	r := rand.New(rand.NewPCG(seed, 2))
	w := newWorld(r)
	w.plainPosts()
	m := &model{world: w, state: map[string]string{}, root: map[string]string{}, stale: map[string]bool{}}
	k := modloadtest.NewKernel(t)
	for name, err := range w.errs {
		k.Fail(name, err)
	}
	s := modload.New(modload.Options{Index: w.index, Load: k.Load, Unload: k.Unload, Workers: 1 + r.IntN(6)})
	for i := range steps {
		what := m.step(t, r, k, s)
		if got := s.Counters().Finit; got != m.calls {
			t.Fatalf("seed %d, step %d: %d calls of finit_module after %v, want %d", seed, i, got, what, m.calls)
		}
		if i%5 > 0 {
			continue
		}
		if got := states(s); !maps.Equal(m.state, got) {
			t.Fatalf("seed %d, step %d: after %v (-model +scheduler):\n%s", seed, i, what, cmp.Diff(m.state, got))
		}
	}
}

// step does one thing to both.
func (m *model) step(t *testing.T, r *rand.Rand, k *modloadtest.Kernel, s *modload.Scheduler) (what []any) {
	m.tried = map[string]bool{}
	name, query := m.names[r.IntN(len(m.names))], m.alias[r.IntN(len(m.alias))]
	switch n := r.IntN(100); {
	case n < 25: // an alias that was seen before is not looked up for coldplug
		what = []any{"uevent", query}
		s.Request(query, modload.Origin{Kind: modload.Uevent, By: "/devices/u"})
		for _, hit := range m.index.Lookup(query).Names {
			m.request(hit, false, true)
		}
	case n < 65:
		c := modload.Call{Query: name, Again: r.IntN(3) == 0}
		c.Origin.Kind = []modload.Kind{modload.Named, modload.Upcall}[r.IntN(2)]
		if r.IntN(3) == 0 {
			c.Query = query
		}
		what = []any{"call", c}
		if _, err := s.Do(t.Context(), c); err != nil {
			t.Errorf("%v: %v", what, err)
		}
		for _, hit := range m.index.Lookup(c.Query).Names {
			m.request(hit, c.Again, false)
		}
	case n < 85:
		what = []any{"remove", name}
		err := s.Remove(t.Context(), name, 0)
		if want := m.remove(name); want != (err == nil) {
			t.Errorf("%v: %v, want success %v", what, err, want)
		}
	case n < 97:
		m.errs[name] = []error{nil, nil, refused(unix.ENODEV), unix.ENOEXEC}[r.IntN(4)]
		what = []any{name, "shall answer", m.errs[name]}
		k.Fail(name, m.errs[name])
	default:
		what = []any{"index"}
		s.Reload(m.index, m.reindex(r), nil)
	}
	m.run()
	settle(t, s)
	return what
}
