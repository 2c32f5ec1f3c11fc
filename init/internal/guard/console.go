package guard

import (
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/klog"
)

// ringSize bounds what waits for a console, or for the kernel's log.
const ringSize = 64 << 10

// flush waits for what has been said to be shown, at most for limit each.
func (g *guard) flush(limit time.Duration) {
	g.kmsg.Flush(limit)
	g.console.Flush(limit)
}

// say writes to the console itself, for the person before it. It does not wait
// for the console.
func (g *guard) say(text string) { _, _ = g.console.Write([]byte(text)) }

func newConsole() *klog.Ring {
	return klog.NewRing(console{}, ringSize, func(n int) []byte {
		return fmt.Appendf(nil, "\nhapax: %d messages dropped: the console is slower than they are\n", n)
	})
}

func newKmsg(w io.Writer) *klog.Ring {
	return klog.NewRing(w, ringSize, func(n int) []byte {
		return fmt.Appendf(nil, "<4>hapax: %d messages dropped\n", n)
	})
}

// A console is the terminal that the kernel has opened for PID 1. Where it has
// been hung up, as when a session on it ends, it is opened again.
type console struct{}

func (console) Write(p []byte) (int, error) {
	for done, again := 0, false; ; {
		n, err := unix.Write(1, p[done:])
		if n > 0 {
			done += n
		}
		switch {
		case done == len(p):
			return done, nil
		case err == unix.EINTR:
		case err == unix.EIO && !again:
			again = true
			reopenConsole()
		case err != nil:
			return done, err
		}
	}
}

// reopenConsole puts /dev/console, opened anew, in the place of the standard
// files. O_NONBLOCK keeps the open from waiting for a carrier, O_NOCTTY keeps
// the keys of that terminal from sending signals to PID 1.
func reopenConsole() {
	fd, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if err := unix.SetNonblock(fd, false); err != nil {
		return
	}
	for std := range 3 {
		_ = unix.Dup3(fd, std, 0)
	}
}
