package resolve

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hapax/modload/modindex"
)

// A Request is what an image is to hold.
type Request struct {
	Rules []Rule // applied in order; none give no modules

	// Config is the modprobe.d(5) that the image will hold, whose softdeps, weakdeps and aliases count and whose denied
	// modules stay out; nil for none. That of the machine that builds says nothing about the machines that boot a universal
	// image, and two builders would get two images.
	Config *modindex.Config

	Deny []string // names or patterns of modules that stay out as well
}

// A Choice is a module of a selection.
type Choice struct {
	modindex.Module
	Why string // the rule, or the first other reason that was met: "universal.txt: kernel/drivers/ata/", "needed by ahci", "softdep of btrfs"
}

// Select is Choose for rules alone, without the reasons.
func Select(x *modindex.Index, rules []Rule) ([]modindex.Module, error) {
	choices, err := Choose(x, Request{Rules: rules})
	if err != nil {
		return nil, err
	}
	modules := make([]modindex.Module, len(choices))
	for i, c := range choices {
		modules[i] = c.Module
	}
	return modules, nil
}

// Choose applies the rules of a request in order to the modules of x and returns the closure of what they ask for, sorted
// by path, each module once; built-in modules need no place and are left out.
//
// Targets of softdeps and weakdeps that the tree does not have are skipped, as kmod does. A module file that is missing
// although modules.dep lists it is a *MissingError, for the image would fail at boot; a name that the tree does not know is
// an error with the nearest names it does know.
func Choose(x *modindex.Index, req Request) ([]Choice, error) {
	if i := slices.IndexFunc(req.Deny, func(name string) bool { return strings.ContainsAny(name, " \t\n,\"") }); i >= 0 {
		return nil, fmt.Errorf("denied module %q: no module has such a name", req.Deny[i])
	}
	s := &selection{
		index:  x,
		config: req.Config,
		denied: modindex.ParseCmdline("hapax.deny=" + strings.Join(req.Deny, ",")),
		view:   x.With(req.Config),
		wanted: map[string]want{},
		banned: map[string]bool{},
		taken:  map[string]Choice{},
		all:    slices.Collect(x.All()),
	}
	for _, rule := range req.Rules {
		if err := s.apply(rule); err != nil {
			return nil, err
		}
	}
	for _, m := range s.all {
		want, wanted := s.wanted[m.Name]
		if !wanted {
			continue
		}
		err := s.take(m, want.why)
		if _, banned := errors.AsType[*banError](err); banned && !want.byName {
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	if err := s.takeSoftdeps(); err != nil {
		return nil, err
	}
	byPath := func(a, b Choice) int { return strings.Compare(a.Path, b.Path) }
	return slices.SortedFunc(maps.Values(s.taken), byPath), nil
}

// Lookup returns the normalised names of the modules that query, a name or an alias, stands for, built-in ones included.
// A query that the tree does not know is the error of Unknown.
func Lookup(x *modindex.Index, query string) ([]string, error) {
	if names := x.Lookup(query).Names; len(names) > 0 {
		return names, nil
	}
	return nil, Unknown(x, query)
}

// Unknown returns the error for a query that the tree does not know, with the nearest name it does know.
func Unknown(x *modindex.Index, query string) error {
	return fmt.Errorf("no module or alias %q in %s%s", query, x.Dir(), hint(x, query))
}

// A selection is the state of one Choose. First rules fill wanted and banned; then taken grows to the closure.
type selection struct {
	index  *modindex.Index
	config *modindex.Config
	denied *modindex.Config  // what Request.Deny says
	view   *modindex.View    // the index as config lets it appear
	all    []modindex.Module // of the index, in its order
	wanted map[string]want
	banned map[string]bool
	taken  map[string]Choice
	soft   []modindex.Module // taken, softdeps not yet looked at
}

// A want is why a rule asks for a module.
type want struct {
	byName bool // somebody named it, it did not come with a folder or a built-in list
	why    string
}

// apply notes what one rule asks for. A rule that adds also lifts earlier bans from what it needs, so that a list given by
// a user wins over the built-in one before it.
func (s *selection) apply(rule Rule) error {
	modules, err := s.match(rule)
	if err != nil {
		return err
	}
	for _, m := range modules {
		switch {
		case !rule.Remove:
			s.want(m.Name, rule)
			delete(s.banned, m.Name)
			for _, dep := range m.Deps {
				delete(s.banned, dep)
			}
		case rule.Name != "":
			s.banned[m.Name] = true
			delete(s.wanted, m.Name)
		default:
			delete(s.wanted, m.Name)
		}
	}
	return nil
}

// want notes that rule asks for a module.
func (s *selection) want(name string, rule Rule) {
	w, ok := s.wanted[name]
	if !ok {
		w.why = rule.why()
	}
	w.byName = w.byName || rule.Name != "" && !rule.Optional
	s.wanted[name] = w
}

// match returns the loadable modules that a rule speaks of.
func (s *selection) match(rule Rule) ([]modindex.Module, error) {
	var found []modindex.Module
	if rule.Name == "" {
		for _, m := range s.all {
			if rule.covers(m) {
				found = append(found, m)
			}
		}
		if len(found) == 0 && !rule.Optional {
			return nil, fmt.Errorf("no modules below %s", filepath.Join(s.index.Dir(), rule.Folder))
		}
		return found, nil
	}
	names := s.view.Lookup(rule.Name).Names
	if len(names) == 0 && !rule.Optional {
		return nil, Unknown(s.index, rule.Name)
	}
	for _, name := range names {
		if m, ok := s.view.Module(name); ok && !m.Builtin && m.Path != "" {
			found = append(found, m)
		}
	}
	return found, nil
}

// take adds m and its hard dependencies, all of them or none.
func (s *selection) take(m modindex.Module, why string) error {
	if _, done := s.taken[m.Name]; done {
		return nil
	}
	group := make([]modindex.Module, 0, len(m.Deps)+1)
	for _, name := range m.Deps {
		dep, ok := s.view.Module(name)
		switch {
		case !ok:
			return &MissingError{File: name, NeededBy: m.Name, Err: errors.New("not listed in modules.dep")}
		case !dep.Builtin:
			group = append(group, dep)
		}
	}
	group = slices.DeleteFunc(append(group, m), func(g modindex.Module) bool {
		_, done := s.taken[g.Name]
		return done
	})
	for _, g := range group {
		if err := s.ban(g.Name, m.Name); err != nil {
			return err
		}
	}
	for _, g := range group {
		if err := s.check(g, m); err != nil {
			return err
		}
	}
	for _, g := range group {
		c := Choice{Module: g, Why: "needed by " + m.Name}
		if g.Name == m.Name {
			c.Why = why
		} else if w, wanted := s.wanted[g.Name]; wanted {
			c.Why = w.why
		}
		s.taken[g.Name] = c
	}
	s.soft = append(s.soft, group...)
	return nil
}

// ban returns a *banError if the image may not hold a module that m needs or is.
func (s *selection) ban(name, m string) error {
	if _, denied := s.denied.Denied(name); denied {
		return &banError{module: m, banned: name, by: "the deny list"}
	}
	if reason, denied := s.config.Denied(name); denied {
		return &banError{module: m, banned: name, by: reason}
	}
	if s.banned[name] && name != m {
		return &banError{module: m, banned: name, by: "-" + name}
	}
	return nil
}

// check makes sure that the file of g, which m needs or is, can be put into an image.
func (s *selection) check(g, m modindex.Module) error {
	missing := &MissingError{File: g.Path}
	if g.Name != m.Name {
		missing.NeededBy = m.Name
	}
	if !fs.ValidPath(g.Path) {
		missing.Err = errors.New("outside of the modules folder")
		return missing
	}
	file := filepath.Join(s.index.Dir(), filepath.FromSlash(g.Path))
	missing.File = file
	info, err := os.Stat(file)
	switch {
	case err != nil:
		missing.Err = err
		if pathError, ok := errors.AsType[*fs.PathError](err); ok {
			missing.Err = pathError.Err // File says the rest
		}
		return missing
	case !info.Mode().IsRegular():
		missing.Err = errors.New("not a regular file")
		return missing
	}
	return nil
}

// takeSoftdeps adds the softdeps and weakdeps of what was taken, and theirs, until nothing new comes.
func (s *selection) takeSoftdeps() error {
	for len(s.soft) > 0 {
		m := s.soft[0]
		s.soft = s.soft[1:]
		if err := s.takeWishes(slices.Concat(m.Pre, m.Post), "softdep of "+m.Name); err != nil {
			return err
		}
		if err := s.takeWishes(s.view.Weakdeps(m.Name), "weakdep of "+m.Name); err != nil {
			return err
		}
	}
	return nil
}

// takeWishes adds what queries stand for. A target that is unknown, banned or missing is skipped.
func (s *selection) takeWishes(queries []string, why string) error {
	for _, query := range queries {
		for _, name := range s.view.Lookup(query).Names {
			target, ok := s.view.Module(name)
			if !ok || target.Builtin || target.Path == "" || s.banned[name] {
				continue
			}
			if err := s.take(target, why); err != nil && !skippable(err) {
				return err
			}
		}
	}
	return nil
}

// skippable reports whether a softdep that failed with err may be left out.
func skippable(err error) bool {
	_, banned := errors.AsType[*banError](err)
	missing, ok := errors.AsType[*MissingError](err)
	return banned || ok && !errors.Is(missing.Err, fs.ErrPermission)
}

// A MissingError reports a module whose file the tree lists but cannot give.
type MissingError struct {
	File     string
	NeededBy string // the module that depends on it; "" if it was selected itself
	Err      error
}

func (e *MissingError) Error() string {
	need := ""
	if e.NeededBy != "" {
		need = ", needed by " + e.NeededBy
	}
	return fmt.Sprintf("module file %s%s: %v (is the tree complete, and depmod up to date?)", e.File, need, e.Err)
}

// Unwrap returns the cause.
func (e *MissingError) Unwrap() error { return e.Err }

// A banError reports a module that cannot be had, or not without another one, because of a rule or a deny list.
type banError struct{ module, banned, by string }

func (e *banError) Error() string {
	if e.module == e.banned {
		return fmt.Sprintf("%s is denied by %s: drop one of the two", e.module, e.by)
	}
	if strings.HasPrefix(e.by, "-") {
		return fmt.Sprintf("%s needs %s, which %s takes away: drop one of the two rules", e.module, e.banned, e.by)
	}
	return fmt.Sprintf("%s needs %s, which %s denies: drop one of the two", e.module, e.banned, e.by)
}
