package applet

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// command runs a command of modprobe.d(5) for a module, and waits for its end.
func (m *modprobe) command(name, command string) error {
	const shell = "/bin/sh"
	env := append(os.Environ(), "MODPROBE_MODULE="+name)
	if len(m.nested) > 0 {
		env = append(env, "MODPROBE_OPTIONS="+strings.Join(m.nested, " "))
	}
	pid, err := syscall.ForkExec(shell, []string{"sh", "-c", command}, &syscall.ProcAttr{
		Env:   env,
		Files: []uintptr{0, 1, 2},
	})
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s is missing: put a shell into the image (hapax build --shell)", shell)
	}
	if err != nil {
		return err
	}
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(pid, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case status.Signaled():
			return fmt.Errorf("ended by %v", status.Signal())
		case status.ExitStatus() != 0:
			return fmt.Errorf("retcode %d", status.ExitStatus())
		}
		return nil
	}
}
