package control

import (
	"context"
	"errors"
	"os"
	"time"

	"hapax/init/internal/tojson"
	"hapax/modload"
)

// serve answers a request.
func (s *Server) serve(ctx context.Context, conn *os.File, who peer, r request) {
	if who.kernel {
		s.count(func(c *Stats) { c.Upcalls++ })
	}
	if r.verb.waits() {
		if !s.begin(who) {
			_ = send(conn, encodeEnd(ErrBusy))
			return
		}
		defer s.end(who)
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer watch(conn, cancel)()
	}
	// What cannot be sent has nobody to read it.
	_ = send(conn, encodeEnd(s.perform(ctx, conn, who, r)))
}

// begin counts a client that is about to wait, if it may.
func (s *Server) begin(who peer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !who.kernel {
		if s.others == s.waiting {
			s.stats.Busy++
			return false
		}
		s.others++
	}
	s.stats.Waiting++
	return true
}

func (s *Server) end(who peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !who.kernel {
		s.others--
	}
	s.stats.Waiting--
}

// watch calls gone when the client goes away, or says anything more. The
// function that it returns ends that, and returns when it has ended.
func watch(conn *os.File, gone func()) (stop func()) {
	_ = conn.SetReadDeadline(time.Time{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		var buf [1]byte
		_, _ = conn.Read(buf[:])
		gone()
	}()
	return func() {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		<-done
		gone()
	}
}

// An engineSide carries out what the engine is asked for.
type engineSide struct{ Backend }

func (s engineSide) perform(ctx context.Context, conn *os.File, who peer, r request) error {
	switch r.verb {
	case verbLoad:
		return s.load(ctx, conn, who, r.call)
	case verbRemove:
		return s.Remove(ctx, r.name, r.flag)
	case verbSettle:
		return s.Settle(ctx)
	case verbReload:
		return s.Reload()
	case verbStatus:
		return sendJSON(conn, s.Status())
	case verbWhy:
		m, known := s.Why(r.name)
		if !known {
			return modload.ErrNotFound
		}
		return sendJSON(conn, m)
	case verbTrace:
		for m := range s.Trace(ctx) {
			if err := sendJSON(conn, m); err != nil {
				return err
			}
		}
		return ctx.Err()
	}
	return badRequest("unknown verb %q", r.verb) // parseRequest let none through
}

func (s engineSide) load(ctx context.Context, conn *os.File, who peer, c modload.Call) error {
	c.Origin = modload.Origin{Kind: modload.Named, By: who.by}
	if who.kernel {
		c.Origin = modload.Origin{Kind: modload.Upcall, By: c.Query}
	}
	outcomes, err := s.Do(ctx, c)
	if n := len(outcomes); n > 0 && err == nil && who.kernel && errors.Is(outcomes[n-1].Err, modload.ErrBlacklisted) {
		// To people this is success. The kernel would look for the module, and not find it.
		err = outcomes[n-1].Err
	}
	for _, o := range outcomes {
		if err := send(conn, encodeOutcome(o)); err != nil {
			return err
		}
	}
	return err
}

func sendJSON(conn *os.File, v any) error { return sendParts(conn, kindJSON, tojson.Marshal(v)) }

// sendParts sends one document in as many packets as it takes.
func sendParts(conn *os.File, kind string, doc []byte) error {
	for {
		part := doc[:min(len(doc), maxPart)]
		if err := send(conn, append([]byte(kind+"\x00"), part...)); err != nil {
			return err
		}
		if doc = doc[len(part):]; len(doc) == 0 {
			return nil
		}
	}
}
