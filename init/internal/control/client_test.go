package control

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/modload"
)

// The engine dies with a request, and the next one answers it.
func TestEngineLost(t *testing.T) {
	path := socketPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan error)
	ask := func(patience time.Duration) {
		outcomes, err := (&Client{Path: path, Patience: patience}).Load(modload.Call{Query: "x"})
		if err == nil && len(outcomes) != 1 {
			t.Errorf("outcomes = %v", outcomes)
		}
		answers <- err
	}
	for _, patience := range []time.Duration{0, time.Minute} {
		go ask(patience)
		conn, fd, err := l.accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := await(fd, time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if patience > 0 {
			_ = send(conn, encodeOutcome(modload.Outcome{Module: "half", State: modload.Live}))
			l.f.Close() // without the name being removed, as when it is killed
		}
		conn.Close()
		if patience == 0 {
			if err := <-answers; !errors.Is(err, ErrBroken) {
				t.Errorf("without patience: %v, want ErrBroken", err)
			}
		}
	}
	start(t, path, &backend{do: answerWith(func(c modload.Call) []modload.Outcome {
		return []modload.Outcome{{Module: c.Query, State: modload.Live}}
	})}, nil)
	if err := <-answers; err != nil {
		t.Errorf("with patience: %v", err)
	}
}

func TestNoEngine(t *testing.T) {
	c := Client{Path: socketPath(t), Patience: time.Hour}
	if _, err := c.Status(); !errors.Is(err, ErrNoEngine) {
		t.Errorf("Status = %v, want ErrNoEngine at once", err)
	}
	if err := os.WriteFile(c.Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Patience = 0
	if _, err := c.Status(); !errors.Is(err, ErrBroken) {
		t.Errorf("what is no socket: %v, want ErrBroken", err)
	}
}

func TestTimeout(t *testing.T) {
	e := start(t, socketPath(t), &backend{settle: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}, nil)
	if err := (&Client{Path: e.path, Timeout: 10 * time.Millisecond}).Settle(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Settle = %v, want a timeout", err)
	}
	e.waiting(t, 0)
}

// A second engine takes the name over without a moment in which there is none.
func TestTakeover(t *testing.T) {
	path := socketPath(t)
	first := start(t, path, &backend{status: func() any { return 1 }}, nil)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			doc, err := (&Client{Path: path, Patience: time.Minute}).Status()
			if err != nil {
				t.Errorf("Status = %v", err)
				return
			}
			if string(doc) == "2" {
				return
			}
		}
	}()
	start(t, path, &backend{status: func() any { return 2 }}, nil)
	<-gone
	_ = first
	if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// An answer that is none is an error, not a crash, and not success.
func TestStrangeAnswers(t *testing.T) {
	path := socketPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, packet := range []string{"what", "module\x00x", "module\x00x\x00odd\x000\x00\x000\x00", "end\x00\x00x\x00", "json\x00{}"} {
		go func() {
			conn, _, err := l.accept()
			if err != nil {
				t.Error(err)
				return
			}
			_ = send(conn, []byte(packet))
			conn.Close()
		}()
		if err := (&Client{Path: path}).Settle(); err == nil || errors.Is(err, unix.ENOENT) {
			t.Errorf("%q: %v, want an error", packet, err)
		}
	}
}
