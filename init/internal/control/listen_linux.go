package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Listener is the engine's socket, which clients can connect to.
type Listener struct {
	f      *os.File
	path   string
	closed atomic.Bool
}

// Listen makes the socket at path, and the folder that it is in. It takes the
// place of one that an engine before this one has left behind: at no moment is
// there none, so no client is told that there is no engine.
func Listen(path string) (*Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	l := &Listener{f: os.NewFile(uintptr(fd), path), path: path}
	if err := l.publish(fd); err != nil {
		l.f.Close()
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	return l, nil
}

// publish gives the socket its name. Nobody can connect before the mode is set
// and it listens.
func (l *Listener) publish(fd int) error {
	fresh := l.path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: fresh}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := os.Chmod(fresh, 0o600); err != nil {
		return err
	}
	// A longer queue would only be a longer wait for whoever stands behind a crowd.
	if err := unix.Listen(fd, 128); err != nil {
		return os.NewSyscallError("listen", err)
	}
	return os.Rename(fresh, l.path)
}

// Close stops listening and removes the socket's name. A Serve that is running returns.
func (l *Listener) Close() error {
	l.closed.Store(true)
	_ = os.Remove(l.path) // it may be that of the next engine's already, or gone with /run
	return l.f.Close()
}

// accept waits for a client and returns its connection, which has deadlines.
func (l *Listener) accept() (conn *os.File, fd int, err error) {
	raw, err := l.f.SyscallConn()
	if err != nil {
		return nil, -1, err
	}
	var failed error
	err = raw.Read(func(listener uintptr) bool {
		fd, _, failed = unix.Accept4(int(listener), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return !errors.Is(failed, unix.EAGAIN) && !errors.Is(failed, unix.EINTR)
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, -1, err
	}
	return os.NewFile(uintptr(fd), "client"), fd, nil
}

// pauseAfter tells how long to wait after an error of accept.
func pauseAfter(err error) time.Duration {
	for _, scarce := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM} {
		if errors.Is(err, scarce) {
			return 10 * time.Millisecond
		}
	}
	return time.Millisecond // of one connection: ECONNABORTED and the like
}
