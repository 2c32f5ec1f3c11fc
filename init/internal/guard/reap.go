package guard

import (
	"syscall"

	"golang.org/x/sys/unix"

	"hapax/init/internal/slim"
)

// spawn starts a program and calls ended, from the loop, when it has ended. Its
// pid is known before anybody can reap it, for both are this goroutine's.
//
// The child has no signal blocked or ignored: the runtime puts back what it
// found, and what the guard catches is nothing that execve(2) hands on.
func (g *guard) spawn(path string, argv []string, attr *syscall.ProcAttr, ended func(unix.WaitStatus)) (pid int, err error) {
	slim.Allow()
	pid, err = syscall.ForkExec(path, argv, attr)
	slim.Forbid()
	if err != nil {
		return 0, err
	}
	g.children[pid] = ended
	return pid, nil
}

// forget drops what was to be done when a child has ended.
func (g *guard) forget(pid int) { delete(g.children, pid) }

// reap collects every child that has ended, orphans of others included.
func (g *guard) reap() {
	none := reapAll(func(pid int, status unix.WaitStatus) {
		if ended := g.children[pid]; ended != nil {
			delete(g.children, pid)
			ended(status)
			return
		}
		g.services.Ended(pid, status)
	})
	if none {
		g.childless()
	}
}

// reapAll calls each for every child that has ended, and reports whether no
// child is left.
func reapAll(each func(pid int, status unix.WaitStatus)) (none bool) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
		case err == unix.ECHILD:
			return true
		case err != nil || pid <= 0:
			return false
		default:
			each(pid, status)
		}
	}
}
