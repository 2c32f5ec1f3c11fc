package control

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hapax/modload"
)

// A Server answers clients on behalf of a Backend.
type Server struct {
	answers func(verb) bool                                                     // what is asked for here, and not at the other socket
	perform func(ctx context.Context, conn *os.File, who peer, r request) error // carries a request out, and sends all of the answer but its end
	warnf   func(format string, args ...any)
	proc    string // where /proc is
	lobby   *lobby
	waiting int           // clients that may wait, those of the kernel not counted
	slow    time.Duration // requestPatience
	buffers sync.Pool     // of *[MaxRequest + 1]byte

	mu     sync.Mutex
	stats  Stats
	others int // clients with a request that waits, those of the kernel not counted
	warned time.Time
}

// NewServer returns a Server. What should not happen is reported to warnf, at
// most once per second.
func NewServer(b Backend, warnf func(format string, args ...any)) *Server {
	s := newServer(warnf, maxLobby, maxWaiting)
	s.answers, s.perform = func(v verb) bool { return !v.guards() }, engineSide{b}.perform
	return s
}

func newServer(warnf func(format string, args ...any), lobby, waiting int) *Server {
	return &Server{
		warnf:   warnf,
		proc:    "/proc",
		lobby:   newLobby(lobby),
		waiting: waiting,
		slow:    requestPatience,
		buffers: sync.Pool{New: func() any { return new([MaxRequest + 1]byte) }},
	}
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Serve takes clients until ctx ends, and then returns nil when all of them
// have their answer. Requests that wait then are answered with the error of ctx.
// It closes the Listener.
func (s *Server) Serve(ctx context.Context, l *Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	for {
		conn, fd, err := l.accept()
		if err != nil {
			if l.closed.Load() {
				return nil
			}
			s.warn("control socket: %v", err)
			time.Sleep(pauseAfter(err))
			continue
		}
		who, err := peerOf(fd)
		s.count(func(c *Stats) { c.Clients++ })
		if err != nil || !who.root {
			s.count(func(c *Stats) { c.Denied++ })
			s.warn("control socket: refused process %d, which is not root's", who.pid)
			conn.Close()
			continue
		}
		place := s.lobby.enter(conn, s.slow)
		clients.Go(func() { s.attend(ctx, conn, who, place) })
	}
}

func (s *Server) count(f func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.stats)
}

func (s *Server) warn(format string, args ...any) {
	s.mu.Lock()
	now := time.Now()
	quiet := now.Sub(s.warned) < time.Second
	if !quiet {
		s.warned = now
	}
	s.mu.Unlock()
	if !quiet {
		s.warnf(format, args...)
	}
}

// attend reads the request of one client and answers it.
func (s *Server) attend(ctx context.Context, conn *os.File, who peer, place *list.Element) {
	defer conn.Close()
	defer s.lobby.leave(place)
	// Its place is given up for the end of the engine, too.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	packet, err := s.receive(conn, &who, place)
	stop()
	if err != nil {
		s.lobby.leave(place)
		s.refuse(ctx, conn, err)
		return
	}
	who.identify(s.proc)
	s.lobby.leave(place)
	r, err := parseRequest(packet)
	if err == nil && !s.answers(r.verb) {
		err = badRequest("%s is asked for at the other socket", r.verb)
	}
	if err != nil {
		s.count(func(c *Stats) { c.Bad++ })
		s.warn("control socket: process %d (started by %s): %v", who.pid, who.by, err)
		_ = send(conn, encodeEnd(err))
		return
	}
	s.serve(ctx, conn, who, r)
}

// receive reads the request. A helper of the kernel that has to leave the lobby
// is waited for outside of it.
func (s *Server) receive(conn *os.File, who *peer, place *list.Element) ([]byte, error) {
	packet, err := s.read(conn)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return packet, err
	}
	if who.identify(s.proc); who.kernel {
		s.lobby.leave(place)
		_ = conn.SetReadDeadline(time.Now().Add(s.slow))
		return s.read(conn)
	}
	return packet, err
}

// read waits for the request. One that has come is taken even if it is too late.
func (s *Server) read(conn *os.File) (packet []byte, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	failed := error(unix.EAGAIN)
	take := func(fd uintptr) bool {
		packet, failed = s.take(int(fd))
		return !errors.Is(failed, unix.EAGAIN)
	}
	if err = raw.Read(take); errors.Is(err, os.ErrDeadlineExceeded) {
		if raw.Control(func(fd uintptr) { take(fd) }) == nil && failed == nil {
			return packet, nil
		}
	}
	return packet, errors.Join(err, failed)
}

// take reads a packet that is there. The buffer belongs to no client, for most
// of those that wait will never send anything.
func (s *Server) take(fd int) ([]byte, error) {
	buf := s.buffers.Get().(*[MaxRequest + 1]byte)
	defer s.buffers.Put(buf)
	n, _, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
	switch {
	case errors.Is(err, unix.EINTR):
		return nil, unix.EAGAIN
	case err != nil:
		return nil, err
	case n == 0:
		return nil, io.EOF
	case n > MaxRequest:
		return nil, badRequest("more than %d bytes", MaxRequest)
	}
	return bytes.Clone(buf[:n]), nil
}

// refuse answers a client whose request has not come.
func (s *Server) refuse(ctx context.Context, conn *os.File, err error) {
	var bad *Error
	switch {
	case errors.As(err, &bad):
		s.count(func(c *Stats) { c.Bad++ })
	case ctx.Err() != nil:
		err = modload.ErrDraining
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.count(func(c *Stats) { c.Busy++ })
		err = ErrBusy
	default: // it has gone
		s.count(func(c *Stats) { c.Bad++ })
		return
	}
	_ = send(conn, encodeEnd(err))
}

// send writes one packet, and waits a while for the client to make room for it.
func send(conn *os.File, packet []byte) error {
	_ = conn.SetWriteDeadline(time.Now().Add(answerPatience))
	_, err := conn.Write(packet)
	return err
}
