package uevent

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A script is a socket that plays back what recv returns, and then an empty queue until it is closed.
type script struct {
	steps   []step
	endless bool          // after the steps, foreign messages instead of an empty queue
	recvs   int           // calls of recv
	blocked chan struct{} // closed when no steps are left
	closed  chan struct{}
	once    sync.Once
}

type step struct {
	msg       string
	truncated bool
	foreign   bool
	errno     syscall.Errno
}

func newScript(steps ...step) *script {
	return &script{steps: steps, blocked: make(chan struct{}), closed: make(chan struct{})}
}

func (s *script) recv(_ uintptr, p []byte) (datagram, syscall.Errno) {
	s.recvs++
	if len(s.steps) == 0 && s.endless {
		s.once.Do(func() { close(s.blocked) })
		return datagram{}, 0
	}
	if len(s.steps) == 0 {
		return datagram{}, syscall.EAGAIN
	}
	next := s.steps[0]
	s.steps = s.steps[1:]
	n := copy(p, next.msg)
	return datagram{n: n, truncated: next.truncated, fromKernel: !next.foreign}, next.errno
}

func (s *script) wait(try func(fd uintptr) bool) error {
	for {
		select {
		case <-s.closed:
			return errors.New("use of closed file")
		default:
		}
		if try(0) {
			return nil
		}
		if len(s.steps) > 0 {
			continue
		}
		s.once.Do(func() { close(s.blocked) })
		<-s.closed
	}
}

func (s *script) close() error { close(s.closed); return nil }

// event returns the step that brings event n.
func event(n int) step {
	return step{msg: fmt.Sprintf("change@/devices/x\x00SUBSYSTEM=x\x00SEQNUM=%d\x00", n)}
}

// play returns what Receive returns until the script is at its end: SEQNUMs and errors.
func play(t *testing.T, s *script, rcvbuf int) ([]string, Stats) {
	t.Helper()
	c := newConn(s, rcvbuf)
	var results []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			e, err := c.Receive()
			switch {
			case errors.Is(err, os.ErrClosed):
				return
			case errors.Is(err, ErrOverrun):
				results = append(results, "overrun")
			case err != nil:
				results = append(results, err.Error())
			default:
				results = append(results, fmt.Sprint(e.Seqnum))
			}
		}
	}()
	<-s.blocked
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	<-done
	return results, c.Stats()
}

func TestReceive(t *testing.T) {
	t.Parallel()
	var (
		full  = step{errno: syscall.ENOBUFS}
		empty = step{errno: syscall.EAGAIN}
		long  = step{msg: event(0).msg, truncated: true}
	)
	tests := []struct {
		name  string
		steps []step
		want  string
		stats Stats
	}{
		{"nothing", nil, "", Stats{}},
		{"events", []step{event(1), event(2), empty, event(3)}, "1 2 3", Stats{Received: 3}},
		{"interrupted", []step{{errno: syscall.EINTR}, event(1)}, "1", Stats{Received: 1}},
		{"overrun: what is queued comes first", []step{event(1), full, event(2), event(3), empty, event(4)}, "1 2 3 overrun 4", Stats{Received: 4, Overruns: 1}},
		{"overrun of a queue that is empty by now", []step{full, empty, event(1)}, "overrun 1", Stats{Received: 1, Overruns: 1}},
		{"overrun and then a flood that leaves no pause", []step{full, event(1), event(2), event(3), event(4), event(5), event(6)}, "1 2 3 4 5 overrun 6", Stats{Received: 6, Overruns: 1}},
		{"two overruns", []step{full, empty, full, empty}, "overrun overrun", Stats{Overruns: 2}},
		{"second overrun before a pause", []step{full, event(1), full, event(2), empty, event(3)}, "1 overrun 2 overrun 3", Stats{Received: 3, Overruns: 2}},
		{"the flood after an overrun may be ignored messages", []step{full, {foreign: true}, {foreign: true}, {foreign: true}, {foreign: true}, {msg: "junk"}, event(1)}, "overrun 1", Stats{Received: 1, Ignored: 4, Malformed: 1, Overruns: 1}},
		{"truncated", []step{event(1), long, event(2), empty, event(3)}, "1 2 overrun 3", Stats{Received: 3, Truncated: 1}},
		{"truncated twice", []step{long, long, empty}, "overrun", Stats{Truncated: 2}},
		{"truncated during an overrun", []step{full, long, event(1), empty}, "1 overrun", Stats{Received: 1, Truncated: 1, Overruns: 1}},
		{"foreign", []step{{msg: event(1).msg, foreign: true}, event(2)}, "2", Stats{Received: 1, Ignored: 1}},
		{"foreign and truncated is no loss", []step{{msg: event(1).msg, foreign: true, truncated: true}, empty, event(2)}, "2", Stats{Received: 1, Ignored: 1}},
		{"malformed", []step{{msg: "libudev\x00\xfe\xed\xca\xfe"}, {msg: ""}, event(1)}, "1", Stats{Received: 1, Malformed: 2}},
		{"error", []step{{errno: syscall.EBADF}, event(1)}, "uevent: receive: bad file descriptor 1", Stats{Received: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScript(tt.steps...)
			got, stats := play(t, s, 4*skbSize) // at most 5 messages are queued
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
			if stats != tt.stats {
				t.Errorf("Stats = %+v, want %+v", stats, tt.stats)
			}
			if limit := len(tt.steps) + 1; s.recvs > limit {
				t.Errorf("%d calls of recv for %d steps", s.recvs, len(tt.steps))
			}
		})
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	s := newScript(event(1))
	c := newConn(s, 1<<20)
	results := make(chan error)
	for range 3 { // one of them waits on the socket, two for it
		go func() {
			for {
				_, err := c.Receive()
				if err != nil {
					results <- err
					return
				}
			}
		}()
	}
	<-s.blocked
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	for range 3 {
		if err := <-results; !errors.Is(err, os.ErrClosed) {
			t.Errorf("Receive that was blocked = %v, want %v", err, os.ErrClosed)
		}
	}
	if _, err := c.Receive(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Receive after Close = %v, want %v", err, os.ErrClosed)
	}
	if err := c.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close = %v, want %v", err, os.ErrClosed)
	}
	if got := c.Stats().Received; got != 1 {
		t.Errorf("Stats after Close: received %d, want 1", got)
	}
}

func TestCloseDuringForgedFlood(t *testing.T) {
	t.Parallel()
	s := newScript()
	s.endless = true
	c := newConn(s, 1<<20)
	result := make(chan error)
	go func() {
		_, err := c.Receive()
		result <- err
	}()
	<-s.blocked
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-result; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Receive = %v, want %v", err, os.ErrClosed)
	}
}
