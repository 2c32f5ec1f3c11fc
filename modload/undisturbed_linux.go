package modload

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// undisturbed calls fn on a locked thread with all signals blocked. The Go
// runtime and the parent of children get signals of their own (SIGURG,
// SIGCHLD); one that hits a thread inside a module's init function ends its
// interruptible waits and may start the system call a second time.
func undisturbed(fn func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return err
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	return fn()
}
