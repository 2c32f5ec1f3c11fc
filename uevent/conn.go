package uevent

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// ErrOverrun reports that events were lost: the socket buffer was full (ENOBUFS), or a message did
// not fit the receive buffer. The connection stays usable; the caller must walk sysfs again, for
// nothing tells what was lost.
var ErrOverrun = errors.New("uevent: kernel dropped events")

// messageSize is the receive buffer for one message. The kernel allows 2048 bytes of variables, which
// repeat the devpath, before the header: with a devpath of that length this is still twice as much.
const messageSize = 8 << 10

// skbSize is less than what any message takes from the socket's buffer: struct sk_buff and
// struct skb_shared_info alone are more on every 64-bit kernel.
const skbSize = 512

// A Conn is a subscription to the kernel's uevents. All methods may be called concurrently, though
// one goroutine in Receive at a time gets along: further ones wait for it.
type Conn struct {
	sock       socket
	queueLimit int // no more messages than this fit the socket's buffer
	closed     atomic.Bool

	mu    sync.Mutex // held by Receive: protects the fields below
	buf   []byte
	drain int                // messages until a pending ErrOverrun is due even without EAGAIN; 0: none is pending
	try   func(uintptr) bool // c.step, bound once so that Receive does not allocate
	event Event              // result of step
	err   error              // result of step

	stats struct {
		received, ignored, malformed, truncated, overruns atomic.Uint64
	}
}

// A socket is what Conn needs of the kernel's one, so that tests can script it.
type socket interface {
	// wait calls try with the socket's descriptor until it returns true, and sleeps in between until the
	// socket is readable or has an error to report. It returns an error only if the socket has been
	// closed or cannot be waited for.
	wait(try func(fd uintptr) bool) error
	// recv reads one datagram into p and returns 0. It never blocks: EAGAIN says that the queue is
	// empty. It is called from within try alone, where fd cannot be closed.
	recv(fd uintptr, p []byte) (datagram, syscall.Errno)
	// close ends a wait in another goroutine.
	close() error
}

// A datagram describes a message that recv has read.
type datagram struct {
	n          int // bytes of it in the buffer
	truncated  bool
	fromKernel bool // sender and credentials are those of the kernel
}

// Stats counts what a Conn has seen since Listen.
type Stats struct {
	Received  uint64 // events that Receive returned
	Ignored   uint64 // messages of a sender that is not the kernel
	Malformed uint64 // kernel messages that Parse refused
	Truncated uint64 // kernel messages that were too long for the receive buffer
	Overruns  uint64 // times that the kernel reported a full buffer (ENOBUFS)
}

// newConn returns a Conn over sock, whose receive buffer takes rcvbuf bytes as the kernel counts them.
func newConn(sock socket, rcvbuf int) *Conn {
	c := &Conn{sock: sock, queueLimit: max(rcvbuf, 0)/skbSize + 1, buf: make([]byte, messageSize)}
	c.try = c.step
	return c
}

// Receive returns the next event of the kernel and blocks until there is one. Messages of other
// senders and malformed ones are counted and passed over.
//
// It returns ErrOverrun once for each overrun. After an overrun the kernel drops everything until the
// queue has been read empty, so Receive first returns the events that are still queued and ErrOverrun
// after them: a sysfs walk begun then misses nothing. A queue that was empty but has filled again
// cannot be told from one that is not yet empty; therefore ErrOverrun comes after as many messages as
// the buffer can hold at the latest, however fast new ones arrive.
//
// After Close it returns an error that is os.ErrClosed (not net.ErrClosed: package net would cost the
// init binary a megabyte). Any other error means that the socket is unusable.
func (c *Conn) Receive() (Event, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.sock.wait(c.try)
	if c.closed.Load() {
		return Event{}, fmt.Errorf("uevent: receive: %w", os.ErrClosed)
	}
	if err != nil {
		return Event{}, fmt.Errorf("uevent: wait for the socket: %w", err)
	}
	event, err := c.event, c.err
	c.event, c.err = Event{}, nil
	return event, err
}

// step reads until it has a result for Receive, in c.event and c.err, or the queue is empty.
func (c *Conn) step(fd uintptr) bool {
	for !c.closed.Load() {
		if c.drain == 1 {
			c.drain = 0
			c.err = ErrOverrun
			return true
		}
		d, errno := c.sock.recv(fd, c.buf)
		switch errno {
		case 0:
			if c.drain > 1 {
				c.drain--
			}
			if c.accept(d) {
				return true
			}
		case syscall.EINTR:
		case syscall.EAGAIN:
			if c.drain == 0 {
				return false
			}
			c.drain = 1
		case syscall.ENOBUFS:
			c.stats.overruns.Add(1)
			// The kernel overruns again only after the queue was empty, so a loss that is
			// still pending is due now, and this one after the next drain.
			pending := c.drain > 0
			c.drain = c.queueLimit + 1
			if pending {
				c.err = ErrOverrun
				return true
			}
		default:
			c.err = fmt.Errorf("uevent: receive: %w", errno)
			return true
		}
	}
	return true
}

// accept makes the datagram in c.buf the result if it is a kernel event.
func (c *Conn) accept(d datagram) bool {
	switch {
	case !d.fromKernel:
		c.stats.ignored.Add(1)
		return false
	case d.truncated:
		c.stats.truncated.Add(1)
		if c.drain == 0 {
			c.drain = c.queueLimit + 1
		}
		return false
	}
	event, err := Parse(c.buf[:d.n])
	if err != nil {
		c.stats.malformed.Add(1)
		return false
	}
	c.stats.received.Add(1)
	c.event = event
	return true
}

// Close ends the subscription and a blocked Receive. A second call returns an error that is os.ErrClosed.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return fmt.Errorf("uevent: close: %w", os.ErrClosed)
	}
	if err := c.sock.close(); err != nil {
		return fmt.Errorf("uevent: close: %w", err)
	}
	return nil
}

// Stats returns the counters. They also stand after Close.
func (c *Conn) Stats() Stats {
	return Stats{
		Received:  c.stats.received.Load(),
		Ignored:   c.stats.ignored.Load(),
		Malformed: c.stats.malformed.Load(),
		Truncated: c.stats.truncated.Load(),
		Overruns:  c.stats.overruns.Load(),
	}
}
