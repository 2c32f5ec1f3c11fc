package control

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"hapax/modload"
)

// A Client asks the engine, or the guard if it is a GuardClient. Each request has a connection of its own, so
// methods may be called concurrently. It uses blocking system calls and no
// other kind of socket, for the process may be what the kernel waits for while
// it has no module for that kind.
type Client struct {
	Path string // of the socket; "" means [Path]

	// Patience is for how long a request is sent again after the engine was
	// lost before it had answered, or is busy: the guard starts another one. 0
	// means not at all.
	Patience time.Duration

	// Timeout limits the wait for an answer; 0 means for ever. The error is
	// then os.ErrDeadlineExceeded.
	Timeout time.Duration

	absent error // nothing listens; nil is ErrNoEngine
}

// again is the pause before a request is sent again.
const again = 20 * time.Millisecond

// Load asks for a module as modload.Scheduler.Do does. The Origin is the
// engine's to find out. The error, or that of an outcome, is a *Error if it
// comes from the engine; ErrNoEngine if there is none.
func (c *Client) Load(call modload.Call) (outcomes []modload.Outcome, err error) {
	err = c.ask(request{verb: verbLoad, call: call}, func() { outcomes = nil }, func(a answer) error {
		if a.kind == kindModule {
			outcomes = append(outcomes, a.outcome)
		}
		return nil
	})
	return outcomes, err
}

// Remove takes a module out, as modload.Scheduler.Remove does.
func (c *Client) Remove(name string, flags int) error {
	return c.ask(request{verb: verbRemove, name: name, flag: flags}, nil, nil)
}

// Settle waits until the engine has settled.
func (c *Client) Settle() error { return c.ask(request{verb: verbSettle}, nil, nil) }

// Reload has the module index read again.
func (c *Client) Reload() error { return c.ask(request{verb: verbReload}, nil, nil) }

// Status returns what the engine says about itself, a JSON document.
func (c *Client) Status() ([]byte, error) { return c.document(request{verb: verbStatus}) }

// Why returns what the engine knows about a module, a modload.Module in JSON.
func (c *Client) Why(name string) ([]byte, error) {
	return c.document(request{verb: verbWhy, name: name})
}

// Trace calls each with every module that ends from now on, a modload.Module
// in JSON, until the engine ends or each returns an error, which it returns.
func (c *Client) Trace(each func(doc []byte) error) error {
	return c.ask(request{verb: verbTrace}, nil, func(a answer) error {
		if a.kind == kindJSON {
			return each(a.part)
		}
		return nil
	})
}

func (c *Client) document(r request) (doc []byte, err error) {
	err = c.ask(r, func() { doc = nil }, func(a answer) error {
		doc = append(doc, a.part...)
		return nil
	})
	return doc, err
}

// ask sends a request and gives each packet of the answer but the end to each,
// after fresh at the start of every attempt. It returns the error of the end.
func (c *Client) ask(r request, fresh func(), each func(answer) error) error {
	packet := r.encode()
	if len(packet) > MaxRequest {
		return fmt.Errorf("the arguments have more than %d bytes", MaxRequest)
	}
	var limit, patience time.Time
	if c.Timeout > 0 {
		limit = time.Now().Add(c.Timeout)
	}
	for {
		if fresh != nil {
			fresh()
		}
		err := c.once(packet, limit, each)
		if !errors.Is(err, ErrBroken) && !errors.Is(err, ErrBusy) {
			return err
		}
		now := time.Now()
		if patience.IsZero() {
			patience = now.Add(c.Patience)
		}
		if !now.Before(patience) {
			return err
		}
		time.Sleep(again)
	}
}

// once is one attempt.
func (c *Client) once(packet []byte, limit time.Time, each func(answer) error) error {
	fd, err := c.connect()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := retry(func() error { return unix.Send(fd, packet, unix.MSG_NOSIGNAL) }); err != nil {
		// It may have been refused with a word, as a client too many is.
		if !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
			return os.NewSyscallError("send", err)
		}
	}
	buf := make([]byte, maxPart+64)
	for {
		n, err := receive(fd, buf, limit)
		if err != nil {
			return err
		}
		a, err := parseAnswer(buf[:n])
		switch {
		case err != nil:
			return err
		case a.kind == kindEnd:
			return a.err
		case each == nil:
			return fmt.Errorf("control: unexpected answer %q", a.kind)
		}
		if err := each(a); err != nil {
			return err
		}
	}
}

func (c *Client) connect() (fd int, err error) {
	path := c.Path
	if path == "" {
		path = Path
	}
	if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = retry(func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) })
	if err == nil {
		return fd, nil
	}
	unix.Close(fd)
	switch {
	case errors.Is(err, unix.ENOENT) && c.absent != nil:
		return -1, c.absent
	case errors.Is(err, unix.ENOENT):
		return -1, ErrNoEngine
	case errors.Is(err, unix.ECONNREFUSED): // the name is left, so there was one
		return -1, ErrBroken
	}
	return -1, &os.PathError{Op: "connect", Path: path, Err: err}
}

// receive reads one packet.
func receive(fd int, buf []byte, limit time.Time) (n int, err error) {
	if !limit.IsZero() {
		if err := await(fd, limit); err != nil {
			return 0, err
		}
	}
	err = retry(func() (err error) { n, err = unix.Read(fd, buf); return err })
	switch {
	case err == nil && n == 0, errors.Is(err, unix.ECONNRESET):
		return 0, ErrBroken
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	}
	return n, nil
}

// await waits until there is something to read.
func await(fd int, limit time.Time) error {
	for {
		left := time.Until(limit)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
		if n > 0 {
			return nil
		}
	}
}

// retry repeats a system call that a signal has interrupted.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
