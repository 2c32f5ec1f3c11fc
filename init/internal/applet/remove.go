package applet

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"hapax/modload"
)

// removeQuery takes out what one query stands for. The error has been logged.
func (m *modprobe) removeQuery(query string) error {
	hits := m.modules().Lookup(query)
	if len(hits.Names) == 0 {
		if fatal := m.complain("Module %s not found.", query); fatal != nil {
			return fatal
		}
		return unix.ENOENT
	}
	for _, name := range hits.Names {
		if err := m.removeModule(name, m.removeHolders, false); err != nil {
			return err
		}
	}
	return nil
}

// removeModule takes out one module, with what was there for its sake: the
// modules of its "softdep post:" lines before, those that it needed and those of
// its "softdep pre:" lines after it. What fails among these does no harm.
func (m *modprobe) removeModule(name string, holders, ignoreBuiltin bool) error {
	mod, _ := m.view.Module(name)
	var pre, post []string
	var command string
	if !m.ignoreCommands {
		pre, post = m.lookupAll(mod.Pre), m.lookupAll(mod.Post)
		command = m.conf.Remove(name)
	}
	if command == "" && !m.ignoreLoaded {
		if gone, err := m.nothingToRemove(name, mod.Builtin, ignoreBuiltin); gone {
			return err
		}
	}
	if err := m.removeList(post, false); err != nil {
		return err
	}
	if holders {
		list, _ := m.holders(name) // without the folder there are none
		if err := m.removeList(list, true); err != nil {
			return err
		}
	}
	if command == "" && !m.ignoreLoaded && m.wait == 0 && m.number(name, "refcnt") > 0 {
		if fatal := m.complain("Module %s is in use.", name); fatal != nil {
			return fatal
		}
		return unix.EBUSY
	}
	if command != "" {
		if err := m.removeByCommand(name, command); err != nil {
			return err
		}
		return m.removeList(pre, false)
	}
	if err := m.removeOne(name); err != nil {
		return err
	}
	// Users before what they need, so that a whole chain goes.
	for _, dep := range slices.Backward(mod.Deps) {
		if m.number(dep, "refcnt") == 0 {
			if err := m.removeOne(dep); err == errFatal {
				return err
			}
		}
	}
	return m.removeList(pre, false)
}

// nothingToRemove reports whether the module is not in the kernel, or part of it.
func (m *modprobe) nothingToRemove(name string, builtin, ignoreBuiltin bool) (gone bool, err error) {
	var fatal error
	switch {
	case builtin && ignoreBuiltin:
		return true, nil
	case builtin:
		fatal = m.complain("Module %s is builtin.", name)
	case m.presence(name) != absent:
		return false, nil
	case !m.firstTime:
		return true, nil
	default:
		fatal = m.complain("Module %s is not in kernel.", name)
	}
	if fatal != nil {
		return true, fatal
	}
	return true, unix.ENOENT
}

// lookupAll returns the modules that queries stand for.
func (m *modprobe) lookupAll(queries []string) (names []string) {
	for _, q := range queries {
		names = append(names, m.view.Lookup(q).Names...)
	}
	return names
}

// removeList removes modules from the last one to the first.
func (m *modprobe) removeList(names []string, stop bool) error {
	for _, name := range slices.Backward(names) {
		if err := m.removeModule(name, false, true); err != nil && (stop || err == errFatal) {
			return err
		}
	}
	return nil
}

// removeByCommand runs a command of modprobe.d(5) in place of the removal.
func (m *modprobe) removeByCommand(name, command string) error {
	m.shown("remove %s\n", command)
	if m.dryRun {
		return nil
	}
	m.stdout.Flush()
	err := m.command(name, command)
	if err == nil {
		return nil
	}
	if fatal := m.complain("Error running remove command for %s: %v", name, err); fatal != nil {
		return fatal
	}
	return err
}

// shown prints what is done, if that is wanted.
func (m *modprobe) shown(format string, args ...any) {
	if m.show || m.verbose {
		fmt.Fprintf(m.stdout, format, args...)
	}
}

// removeOne takes out one module and nothing else.
func (m *modprobe) removeOne(name string) error {
	m.shown("rmmod %s\n", name)
	if m.dryRun {
		return nil
	}
	m.stdout.Flush()
	err := m.removeWaiting(name)
	if err != nil {
		m.errorf("could not remove '%s': %s", name, removeError(err))
	}
	return err
}

// removeWaiting tries again while the module is in use, as long as -w says,
// after pauses that double.
func (m *modprobe) removeWaiting(name string) error {
	flags := unix.O_NONBLOCK
	if m.force {
		flags |= unix.O_TRUNC
	}
	limit := time.Now().Add(m.wait)
	for pause := time.Millisecond; ; pause *= 2 {
		err := m.client.Remove(name, flags)
		left := time.Until(limit)
		if left <= 0 || !errors.Is(err, modload.ErrInUse) && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		time.Sleep(min(pause, left))
	}
}

// removeError is strerror with what delete_module(2) says for the same cause.
func removeError(err error) string {
	switch {
	case errors.Is(err, modload.ErrNotLoaded), errors.Is(err, modload.ErrBuiltin):
		err = unix.ENOENT
	case errors.Is(err, modload.ErrInUse):
		err = unix.EAGAIN
	}
	return strerror(err)
}
