package main

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"hapax/tests/internal/guest"
)

// abuse carries out the commands of abuse.go in package guest.
func abuse(command, argument string) (any, error) {
	switch command {
	case guest.Kill:
		pid, sig, _ := strings.Cut(argument, " ")
		p, err1 := strconv.Atoi(pid)
		s, err2 := strconv.Atoi(sig)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return nil, unix.Kill(p, unix.Signal(s))
	case guest.Fill:
		return fill(argument)
	case guest.Eat:
		return eat()
	case guest.Gorge:
		gorge()
	case guest.Bomb:
		return nil, bomb()
	}
	return upcall(command, argument)
}

// fill writes to a file until there is no room, and returns how much there was.
func fill(name string) (int64, error) {
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var total int64
	for block := make([]byte, 64<<10); ; {
		n, err := f.Write(block)
		total += int64(n)
		if errors.Is(err, unix.ENOSPC) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// eat has a child take memory until the kernel ends it, and returns how it ended.
func eat() (string, error) {
	cmd := exec.Command("/proc/self/exe", guest.Do, guest.Gorge)
	err := cmd.Run()
	if cmd.ProcessState == nil {
		return "", err
	}
	return cmd.ProcessState.String(), nil
}

func gorge() {
	var all [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
		runtime.KeepAlive(all)
	}
}

// bomb starts a process that forks, as its children do, for ever.
func bomb() error {
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return os.NewSyscallError("clone", errno)
	}
	for pid == 0 { // in the children: nothing but system calls
		_, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			_, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
		}
	}
	return nil
}
