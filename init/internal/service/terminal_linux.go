package service

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminal opens the terminal of a service, as somebody who sits down at it expects to find it.
func (l *Linux) terminal(path string) (fd int, err error) {
	if path == Console {
		path = l.Console()
	}
	// A serial line whose other end is not there would be waited for.
	fd, err = unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	_ = unix.SetNonblock(fd, false) // of a file that is open it does not fail
	sane(fd)
	return fd, nil
}

// sane sets what a program that died may have left otherwise: echo, lines, signals by keys, and line ends. Speed and parity stay.
func sane(fd int) {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return // not a terminal
	}
	t.Iflag |= unix.ICRNL | unix.IXON | unix.BRKINT
	t.Oflag |= unix.OPOST | unix.ONLCR
	t.Lflag |= unix.ISIG | unix.ICANON | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE | unix.IEXTEN
	_ = unix.IoctlSetTermios(fd, unix.TCSETS, t) // it stays as it is
}
