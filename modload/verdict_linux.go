package modload

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A reaction is what an answer of finit_module leads to.
type reaction uint8

const (
	refuse  reaction = iota // the module's init function said no
	fail                    // the module is not for this kernel, or the kernel not for us
	recheck                 // live if the kernel has it, else refuse
	yield                   // live if the kernel has it, else refuse, but for one more try
	starved                 // fail, but for one more try
)

// reactionTo returns what to do about an errno. Only the kernel's log tells
// whether some of them come from the module loader or from the module's own
// init function; then the side is taken that does not try again, for a failure
// of the loader is counted each time. See kernel/module/main.c.
func reactionTo(err error) reaction {
	switch err {
	case unix.EEXIST, unix.EINTR:
		// Another loader was first; or the init function returned just this,
		// as kernels up to 2026 pass it on.
		return recheck
	case unix.EBUSY:
		// Another loader's attempt failed, or it was removing the module.
		return yield
	case unix.ENOMEM:
		return starved
	case unix.ENOENT, // unknown symbol
		unix.EINVAL,                     // parameter, symbol version, name of a built-in, damaged compression
		unix.ENOEXEC,                    // not ELF, other vermagic, symbol that another module has
		unix.EPERM,                      // no capability, modules_disabled, lockdown, module_blacklist=
		unix.EKEYREJECTED, unix.EBADMSG, // signature missing, unknown, damaged
		unix.ENOKEY, unix.ENOPKG, // the same from a security module
		unix.ETXTBSY,                      // open for writing, for too long
		unix.EFBIG, unix.EIO, unix.EACCES, // the file could not be read
		unix.ENOSYS, unix.EBADF, unix.EFAULT: // a kernel without modules, and faults of our own
		return fail
	}
	return refuse
}

// verdict turns the answer of finit_module into the error of the module, and
// tells whether another call may be answered otherwise once the loads that run
// now have ended. isLive asks the kernel whether the module is there all the
// same.
func verdict(name string, err error, isLive func() bool) (verdict error, again bool) {
	if err == nil {
		return nil, false
	}
	does := reactionTo(err)
	if (does == recheck || does == yield) && isLive() {
		return nil, false
	}
	if does != fail && does != starved {
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return &LoadError{Module: name, Op: "finit_module", Err: err}, does == yield || does == starved
}
