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

// Select applies rules in order to the modules of x and returns the closure of what they ask for, sorted by path, each
// module once; built-in modules need no place and are left out. No rules give no modules.
//
// It takes an Index and no View: modprobe.d(5) of the machine that builds says nothing about the machines that boot a
// universal image, and two builders would get two images.
//
// Softdep targets that the tree does not have are skipped, as kmod does. A module file that is missing although
// modules.dep lists it is a *MissingError, for the image would fail at boot; a name that the tree does not know is an
// error with the nearest names it does know.
func Select(x *modindex.Index, rules []Rule) ([]modindex.Module, error) {
	s := &selection{
		index:  x,
		wanted: map[string]bool{},
		banned: map[string]bool{},
		taken:  map[string]modindex.Module{},
	}
	for _, rule := range rules {
		if err := s.apply(rule); err != nil {
			return nil, err
		}
	}
	for m := range x.All() {
		byName, wanted := s.wanted[m.Name]
		if !wanted {
			continue
		}
		err := s.take(m)
		if _, banned := errors.AsType[*banError](err); banned && !byName {
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	if err := s.takeSoftdeps(); err != nil {
		return nil, err
	}
	byPath := func(a, b modindex.Module) int { return strings.Compare(a.Path, b.Path) }
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

// A selection is the state of one Select. First rules fill wanted and banned; then taken grows to the closure.
type selection struct {
	index  *modindex.Index
	wanted map[string]bool // value: somebody named it, it did not come with a folder or a built-in list
	banned map[string]bool
	taken  map[string]modindex.Module
	soft   []modindex.Module // taken, softdeps not yet looked at
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
			s.wanted[m.Name] = s.wanted[m.Name] || rule.Name != "" && !rule.Optional
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

// match returns the loadable modules that a rule speaks of.
func (s *selection) match(rule Rule) ([]modindex.Module, error) {
	var found []modindex.Module
	if rule.Name == "" {
		for m := range s.index.All() {
			if rule.covers(m) {
				found = append(found, m)
			}
		}
		if len(found) == 0 && !rule.Optional {
			return nil, fmt.Errorf("no modules below %s", filepath.Join(s.index.Dir(), rule.Folder))
		}
		return found, nil
	}
	names, err := Lookup(s.index, rule.Name)
	if err != nil {
		if rule.Optional {
			return nil, nil
		}
		return nil, fmt.Errorf("%w", err)
	}
	for _, name := range names {
		if m, ok := s.index.Module(name); ok && !m.Builtin {
			found = append(found, m)
		}
	}
	return found, nil
}

// take adds m and its hard dependencies, all of them or none.
func (s *selection) take(m modindex.Module) error {
	if _, done := s.taken[m.Name]; done {
		return nil
	}
	group := make([]modindex.Module, 0, len(m.Deps)+1)
	for _, name := range m.Deps {
		dep, ok := s.index.Module(name)
		switch {
		case s.banned[name]:
			return &banError{module: m.Name, banned: name}
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
		if err := s.check(g, m); err != nil {
			return err
		}
	}
	for _, g := range group {
		s.taken[g.Name] = g
	}
	s.soft = append(s.soft, group...)
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

// takeSoftdeps adds the softdeps of what was taken, and theirs, until nothing new comes. A target that is unknown, banned
// or missing is skipped: a softdep is a wish.
func (s *selection) takeSoftdeps() error {
	for len(s.soft) > 0 {
		m := s.soft[0]
		s.soft = s.soft[1:]
		for _, query := range slices.Concat(m.Pre, m.Post) {
			for _, name := range s.index.Lookup(query).Names {
				target, ok := s.index.Module(name)
				if !ok || target.Builtin || s.banned[name] {
					continue
				}
				if err := s.take(target); err != nil && !skippable(err) {
					return err
				}
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

// A banError reports a module that cannot be had without one that a rule took away.
type banError struct{ module, banned string }

func (e *banError) Error() string {
	return fmt.Sprintf("%s needs %s, which -%[2]s takes away: drop one of the two rules", e.module, e.banned)
}
