package applet

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"hapax/modload"
	"hapax/modload/modindex"
)

// insertQuery brings in what one query stands for, or shows it. The error has
// been logged.
func (m *modprobe) insertQuery(query, params string) error {
	switch {
	case m.lookupOnly, m.dryRun:
		return m.plan(query, params, m.printStep)
	case m.elsewhere():
		return m.plan(query, params, m.insertStep)
	}
	if m.verbose {
		if err := m.plan(query, params, m.printStep); err != nil {
			return err
		}
		m.stdout.Flush() // before the engine is waited for
	}
	return m.request(query, params)
}

// request has the engine load what query stands for.
func (m *modprobe) request(query, params string) error {
	outcomes, err := m.client.Load(modload.Call{
		Query:         query,
		Blacklist:     m.blacklist,
		IgnoreInstall: m.ignoreCommands,
		Params:        params,
		Flags:         m.flags(),
		Asker:         m.getenv("MODPROBE_MODULE"),
	})
	if err != nil {
		return m.requestFailed(query, err)
	}
	for _, o := range outcomes {
		err = o.Err
		if errors.Is(err, modload.ErrBlacklisted) {
			err = nil // left out is what was asked for
		}
		if err == nil && o.State == modload.Live && !o.New && m.firstTime ||
			err == nil && o.State == modload.Builtin && m.firstTime {
			err = unix.EEXIST
		}
		if err != nil {
			m.notInserted(o.Module, err)
		}
	}
	return err
}

// requestFailed logs why there are no outcomes.
func (m *modprobe) requestFailed(query string, err error) error {
	switch {
	case errors.Is(err, modload.ErrNotFound):
		if fatal := m.complain("Module %s not found in directory %s", query, m.dir()); fatal != nil {
			return fatal
		}
	case errors.Is(err, modload.ErrBlacklisted): // the kernel asks, and is to know that there is nothing
	default:
		m.notInserted(query, err)
	}
	return err
}

// notInserted logs why a module is not there.
func (m *modprobe) notInserted(name string, err error) {
	text := strerror(err)
	switch {
	case errors.Is(err, unix.EEXIST):
		text = "Module already in kernel"
	case errors.Is(err, unix.ENOENT):
		text = "Unknown symbol in module, or unknown parameter (see dmesg)"
	}
	m.errorf("could not insert '%s': %s", name, text)
}

// flags returns those of finit_module(2).
func (m *modprobe) flags() (flags int) {
	if m.force || m.forceModversion {
		flags |= unix.MODULE_INIT_IGNORE_MODVERSIONS
	}
	if m.force || m.forceVermagic {
		flags |= unix.MODULE_INIT_IGNORE_VERMAGIC
	}
	return flags
}

// A step is one thing that modprobe does to load a module: insert a file, or
// run a command.
type step struct {
	mod     modindex.Module
	path    string // of the file, "" for a command and for what is built in
	command string
	params  string
	flags   int // of finit_module(2)
}

// plan goes through the modules that query stands for as modprobe does without
// an engine, and calls do for each step. The last module decides.
func (m *modprobe) plan(query, params string, do func(step) error) (err error) {
	hits := m.modules().Lookup(query)
	if len(hits.Names) == 0 {
		if fatal := m.complain("Module %s not found in directory %s", query, m.where); fatal != nil {
			return fatal
		}
		return unix.ENOENT
	}
	for _, name := range hits.Names {
		if m.lookupOnly {
			fmt.Fprintln(m.stdout, name)
			continue
		}
		err = nil
		switch {
		case !m.ignoreLoaded && m.inKernel(name):
			if m.firstTime {
				err = unix.EEXIST
			}
		case (hits.ByAlias || m.blacklist) && m.conf.Blacklisted(name):
		default:
			err = m.planModule(name, query, params, do)
		}
		if err != nil {
			m.notInserted(name, err)
		}
	}
	return err
}

// planModule calls do for each module that is not there yet, in order. What the
// module needs has to succeed, what it prefers has not.
func (m *modprobe) planModule(name, query, params string, do func(step) error) error {
	wanted, _ := m.view.Module(name)
	for _, mod := range m.order(wanted) {
		if !m.ignoreLoaded && m.inKernel(mod.Name) {
			continue
		}
		s := step{mod: mod, command: mod.Install}
		if mod.Name == wanted.Name {
			s.params = concat(m.view.Options(mod.Name, query), params)
			s.flags = m.flags()
		} else {
			s.params = concat(m.view.Options(mod.Name, ""), "")
		}
		if mod.Path != "" && s.command == "" {
			s.path = mod.Path
			if !filepath.IsAbs(s.path) {
				s.path = m.where + "/" + s.path
			}
		}
		if err := do(s); err != nil && (mod.Name == wanted.Name || slices.Contains(wanted.Deps, mod.Name)) {
			return err
		}
	}
	return nil
}

// order returns what to go through for a module. -i leaves out its command, and
// what it prefers.
func (m *modprobe) order(wanted modindex.Module) (list []modindex.Module) {
	if !m.ignoreCommands {
		return m.view.LoadOrder(wanted.Name)
	}
	seen := map[string]bool{wanted.Name: true}
	for _, dep := range wanted.Deps {
		for _, mod := range m.view.LoadOrder(dep) {
			if !seen[mod.Name] {
				seen[mod.Name] = true
				list = append(list, mod)
			}
		}
	}
	wanted.Install = ""
	return append(list, wanted)
}

// concat joins configured and given parameters as libkmod does, with a blank
// behind the first even if nothing follows.
func concat(configured, given string) string {
	if configured == "" {
		return given
	}
	return configured + " " + given
}

// inKernel reports whether the module is live or part of the kernel.
func (m *modprobe) inKernel(name string) bool {
	mod, _ := m.view.Module(name)
	return mod.Builtin || m.presence(name) == present
}

// printStep shows a step, if steps are to be shown.
func (m *modprobe) printStep(s step) error {
	switch {
	case !m.show && !m.verbose:
	case s.command != "":
		fmt.Fprintf(m.stdout, "install %s %s\n", s.command, s.params)
	case s.mod.Builtin:
		fmt.Fprintf(m.stdout, "builtin %s\n", s.mod.Name)
	case s.path != "":
		fmt.Fprintf(m.stdout, "insmod %s %s\n", s.path, s.params)
	}
	return nil
}

// insertStep does a step. The engine gets the path of a file that is not in its index.
func (m *modprobe) insertStep(s step) error {
	_ = m.printStep(s)
	m.stdout.Flush()
	switch {
	case s.command != "":
		if err := m.command(s.mod.Name, modindex.ExpandInstall(s.command, s.params)); err != nil {
			m.errorf("Error running install command '%s' for module %s: %v", s.command, s.mod.Name, err)
			return unix.EINVAL
		}
		return nil
	case s.path == "":
		m.errorf("could not find module by name='%s'", s.mod.Name)
		return unix.ENOENT
	}
	outcomes, err := m.client.Load(modload.Call{
		Query: s.path, Params: s.params, Flags: s.flags, Asker: m.getenv("MODPROBE_MODULE"),
	})
	if err == nil && len(outcomes) > 0 {
		err = outcomes[len(outcomes)-1].Err
	}
	return err
}
