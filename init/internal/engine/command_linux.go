package engine

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"hapax/init/internal/handoff"
)

// runCommand runs the install command of a module as modprobe(8) does. A
// modprobe in it says which command it comes from, by MODPROBE_MODULE.
func runCommand(module, command string) error {
	if _, err := os.Stat(handoff.ShellPath); err != nil {
		return fmt.Errorf("%q needs %s, which this image does not have (hapax build --shell)", command, handoff.ShellPath)
	}
	// The shell of u-root is one of many programs in one file, and finds out which by the path that it was started by.
	status, err := run(handoff.ShellPath, []string{handoff.ShellPath, "-c", command}, "MODPROBE_MODULE="+module)
	switch {
	case err != nil:
		return err
	case status.Signaled():
		return fmt.Errorf("%q was ended by signal %v", command, status.Signal())
	case status.ExitStatus() != 0:
		return fmt.Errorf("%q ended with status %d", command, status.ExitStatus())
	}
	return nil
}

// run runs a program of the image on the console and returns how it ended.
func run(program string, argv []string, env ...string) (status unix.WaitStatus, err error) {
	pid, err := syscall.ForkExec(program, argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   append(env, "HOME=/", "TERM=linux", "PATH="+handoff.SearchPath),
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", program, err)
	}
	for {
		if _, err = unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			return status, os.NewSyscallError("wait4", err)
		}
	}
}
