package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"hapax/image/resolve"
	"hapax/modload/modindex"
)

// A catalog is a module tree and what the configuration says about it.
type catalog struct {
	index  *modindex.Index
	view   *modindex.View
	config *modindex.Config // nil: none
}

// resolved is what resolve --json prints.
type resolved struct {
	Dir     string   `json:"modules_dir"`
	Queries []answer `json:"queries"`
}

// An answer is what one query stands for.
type answer struct {
	Query   string   `json:"query"`
	Modules []string `json:"modules"`
	ByAlias bool     `json:"by_alias"`        // not by name: the blacklist applies
	Steps   []step   `json:"steps,omitempty"` // with --depends
	Error   string   `json:"error,omitempty"`
}

// A step is one thing that loading a module takes.
type step struct {
	Action  string `json:"action"` // insmod, builtin or install
	Module  string `json:"module"`
	Path    string `json:"path,omitempty"`    // insmod: absolute
	Command string `json:"command,omitempty"` // install: with $CMDLINE_OPTS as it is
	Options string `json:"options,omitempty"`
}

// String returns the line of modprobe --show-depends, without the blanks at its end.
func (s step) String() string {
	switch s.Action {
	case "insmod":
		return strings.TrimSpace("insmod " + s.Path + " " + s.Options)
	case "install":
		return strings.TrimSpace("install " + s.Command + " " + s.Options)
	}
	return s.Action + " " + s.Module
}

// lines returns the answer as text.
func (a answer) lines(depends bool) []string {
	if !depends {
		return a.Modules
	}
	lines := make([]string, len(a.Steps))
	for i, s := range a.Steps {
		lines[i] = s.String()
	}
	return lines
}

// answer looks up a query. With an error the answer still holds what could be found.
func (c *catalog) answer(query string, depends bool) (answer, error) {
	hits := c.view.Lookup(query)
	a := answer{Query: query, Modules: hits.Names, ByAlias: hits.ByAlias}
	if len(hits.Names) == 0 {
		a.Modules = []string{} // null would be odd in JSON
		return a, resolve.Unknown(c.index, query)
	}
	if !depends {
		return a, nil
	}
	var errs []error
	for _, name := range hits.Names {
		if hits.ByAlias && c.config.Blacklisted(name) {
			continue // modprobe(8) is silent about that, too
		}
		steps, err := c.steps(name, query)
		for _, s := range steps {
			if !slices.Contains(a.Steps, s) {
				a.Steps = append(a.Steps, s)
			}
		}
		errs = append(errs, err)
	}
	return a, errors.Join(errs...)
}

// steps returns what it takes to load a module that the query stands for.
func (c *catalog) steps(name, query string) ([]step, error) {
	wanted, ok := c.view.Module(name)
	if !ok {
		return nil, fmt.Errorf("%s is an alias of %s, which is no module in %s: correct the alias line", query, name, c.index.Dir())
	}
	if err := c.barred(wanted); err != nil {
		return nil, err
	}
	var steps []step
	for _, m := range c.view.LoadOrderFor(name, query) {
		if c.barred(m) != nil {
			continue // a softdep is a wish
		}
		asked := "" // dependencies were not asked for by the query
		if m.Name == wanted.Name {
			asked = query
		}
		steps = append(steps, c.step(m, asked))
	}
	return steps, nil
}

// barred returns an error if the module cannot be loaded because it, or one that it depends on, is denied.
func (c *catalog) barred(m modindex.Module) error {
	if m.Builtin {
		return nil
	}
	if reason, denied := c.config.Denied(m.Name); denied {
		return fmt.Errorf("%s is denied by %s", m.Name, reason)
	}
	for _, dep := range m.Deps {
		if reason, denied := c.config.Denied(dep); denied {
			return fmt.Errorf("%s needs %s, which is denied by %s", m.Name, dep, reason)
		}
	}
	return nil
}

// step returns what is done for one module. The query is "" if it is loaded for the sake of another one.
func (c *catalog) step(m modindex.Module, query string) step {
	s := step{Action: "insmod", Module: m.Name}
	switch {
	case m.Builtin:
		s.Action = "builtin"
		return s
	case m.Install != "":
		s.Action, s.Command = "install", m.Install
	case filepath.IsAbs(m.Path):
		s.Path = m.Path
	default:
		s.Path = filepath.Join(c.index.Dir(), m.Path)
	}
	s.Options = c.view.Options(m.Name, query)
	return s
}
