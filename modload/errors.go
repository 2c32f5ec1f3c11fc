package modload

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound: the index knows no module for the query.
	ErrNotFound = errors.New("no such module in the index")

	// ErrRefused: the module's init function returned an error. It is the
	// ordinary answer of a driver that does not find its hardware.
	ErrRefused = errors.New("refused by its init function")

	// ErrDenied: a deny line, hapax.deny= or module_blacklist= forbids the module.
	ErrDenied = errors.New("denied")

	// ErrInstall: the configuration has an install command in place of the
	// module, which is not run.
	ErrInstall = errors.New("not run: remove the install line from modprobe.d to load the module itself")

	// ErrBarred: the kernel lets no module in at all.
	ErrBarred = errors.New("loading modules is barred")

	// ErrCycle: the index says that the module depends on itself.
	ErrCycle = errors.New("dependency cycle in modules.dep")

	// ErrNotLoaded: the module that is to be removed is not in the kernel.
	ErrNotLoaded = errors.New("not loaded")

	// ErrBuiltin: the module that is to be removed is part of the kernel image.
	ErrBuiltin = errors.New("built into the kernel")

	// ErrInUse: the module that is to be removed is needed by another.
	ErrInUse = errors.New("in use")

	// ErrBlacklisted: the configuration leaves the module out of this request.
	ErrBlacklisted = errors.New("blacklisted")

	// ErrLoop: the request could only be answered after its own answer.
	ErrLoop = errors.New("the request waits for itself")

	// ErrOverdue: the kernel's own limit for the wait for a module has passed.
	ErrOverdue = errors.New("no answer in time")

	// ErrDraining: the Scheduler starts no further loads.
	ErrDraining = errors.New("loading has ended")
)

// A LoadError tells which module could not be loaded and why.
type LoadError struct {
	Module string // normalised name
	Op     string // what was tried: "open", "finit_module", "dependency virtio_ring"
	Err    error
}

// Error has the form "load virtio_blk: finit_module: exec format error".
func (e *LoadError) Error() string {
	return fmt.Sprintf("load %s: %s: %v", e.Module, e.Op, e.Err)
}

// Unwrap returns the cause.
func (e *LoadError) Unwrap() error { return e.Err }
