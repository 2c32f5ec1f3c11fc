package modload_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"hapax/modload"
	"hapax/modload/modloadtest"
)

// shell runs install commands that are lists of requests: "-i b" for modprobe
// -i b, "a" for modprobe a. It ends with the first that fails.
type shell struct {
	s *modload.Scheduler
	t *testing.T

	mu  sync.Mutex
	ran []string
}

func (sh *shell) run(module, command string) error {
	sh.mu.Lock()
	sh.ran = append(sh.ran, module)
	sh.mu.Unlock()
	if command == "true" {
		return nil
	}
	for query := range strings.SplitSeq(command, ";") {
		c := modload.Call{Asker: module}
		c.Query, c.IgnoreInstall = strings.CutPrefix(query, "-i ")
		outcomes, err := sh.s.Do(sh.t.Context(), c)
		if err == nil {
			err = outcomes[len(outcomes)-1].Err
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func TestInstallCommands(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		install map[string]string
		deps    map[string][]string
		load    string
		err     error
		live    []string
		ran     []string
	}{
		{name: "in place of the module", install: map[string]string{"b": "true"}, load: "b", ran: []string{"b"}},
		{name: "that loads the module itself", install: map[string]string{"b": "-i b"}, load: "b", live: []string{"b"}, ran: []string{"b"}},
		{
			name: "of a dependency, that loads what waits for it", install: map[string]string{"b": "-i b;a"},
			deps: map[string][]string{"a": {"b"}}, load: "a", live: []string{"a", "b"}, ran: []string{"b"},
		},
		{name: "that asks for itself", install: map[string]string{"b": "b"}, load: "b", err: modload.ErrLoop, ran: []string{"b"}},
		{
			name: "that ask for each other", install: map[string]string{"a": "b", "b": "a"},
			load: "a", err: modload.ErrLoop, ran: []string{"a", "b"},
		},
		{
			name: "that asks for what waits for it", install: map[string]string{"b": "a"},
			deps: map[string][]string{"a": {"b"}}, load: "a", err: modload.ErrLoop, ran: []string{"b"},
		},
		{
			name: "that fails, with what needs it", install: map[string]string{"b": "nothing"},
			deps: map[string][]string{"a": {"b"}}, load: "a", err: modload.ErrNotFound, ran: []string{"b"},
		},
		{
			name: "behind the dependencies of its module", install: map[string]string{"b": "-i b"},
			deps: map[string][]string{"b": {"lib"}}, load: "b", live: []string{"b", "lib"}, ran: []string{"b"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := new(modloadtest.Index).Add("lib")
				for _, name := range []string{"a", "b"} {
					x.Add(name, tt.deps[name]...)
					m := x.Modules[name]
					m.Install = tt.install[name]
					x.Modules[name] = m
				}
				k := modloadtest.NewKernel(t)
				sh := &shell{t: t}
				sh.s = modload.New(modload.Options{Index: x, Load: k.Load, Run: sh.run, Workers: 1})
				err := sh.s.Load(t.Context(), tt.load)
				settle(t, sh.s)
				if (tt.err == nil) != (err == nil) || !errors.Is(err, tt.err) {
					t.Errorf("Load: %v, want %v", err, tt.err)
				}
				if got := k.Live(); !slices.Equal(got, tt.live) {
					t.Errorf("live: %v, want %v", got, tt.live)
				}
				if !slices.Equal(sh.ran, tt.ran) {
					t.Errorf("commands of %v were run, want %v", sh.ran, tt.ran)
				}
			})
		})
	}
}

// A module that is live needs no command, whoever loaded it.
func TestInstallCommandOfLiveModule(t *testing.T) {
	t.Parallel()
	x := new(modloadtest.Index).Add("b")
	m := x.Modules["b"]
	m.Install = "true"
	x.Modules["b"] = m
	k := modloadtest.NewKernel(t)
	sh := &shell{t: t}
	sh.s = modload.New(modload.Options{Index: x, Load: k.Load, Run: sh.run})
	for _, c := range []modload.Call{{Query: "b", IgnoreInstall: true}, {Query: "b"}} {
		outcomes, err := sh.s.Do(t.Context(), c)
		if err != nil || outcomes[0].Err != nil {
			t.Errorf("%+v: %+v, %v", c, outcomes, err)
		}
	}
	if len(sh.ran) > 0 || len(k.Log()) != 1 {
		t.Errorf("commands %v, calls %v", sh.ran, k.Log())
	}
}

// After a Reload what failed may be asked for again, and the new index counts.
func TestReload(t *testing.T) {
	t.Parallel()
	k := modloadtest.NewKernel(t)
	s := modload.New(modload.Options{Index: new(modloadtest.Index).Add("a"), Load: k.Load})
	request := func(alias string) {
		s.Request(alias, modload.Origin{Kind: modload.Coldplug})
		settle(t, s)
	}
	k.Fail("a", errors.New("exec format error"))
	request("a")
	request("b")
	k.Fail("a", nil)
	request("a")
	if got := states(s)["a"]; got != "failed" {
		t.Errorf("a is %s before the reload", got)
	}
	s.Reload(new(modloadtest.Index).Add("a", "lib").Add("lib").Add("b"), nil, nil)
	request("a")
	request("b")
	if got := k.Live(); !slices.Equal(got, []string{"a", "b", "lib"}) {
		t.Errorf("live: %v", got)
	}
	if log := k.Log(); !slices.Equal(log, []string{"a", "lib", "a", "b"}) {
		t.Errorf("calls: %v", log)
	}
}
