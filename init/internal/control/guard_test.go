package control

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/modload"
)

// services is a Guard with one service, web, whose commands take until release is closed.
type services struct{ release chan struct{} }

func (s services) Command(ctx context.Context, verb, name string) error {
	if name != "web" {
		return errors.New(name + ": there is no such service")
	}
	select {
	case <-s.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s services) Services(_ context.Context, name string) (any, error) {
	return []string{name, "of many"}, nil
}

func (s services) Log(context.Context, string) ([]byte, error) {
	return bytes.Repeat([]byte("\xff\x00line\n"), 3*maxPart/7), nil
}

// guarded serves services at a socket, with the requests in reach of a test.
func guarded(t *testing.T) (*Client, chan struct{}) {
	t.Helper()
	s := services{make(chan struct{})}
	server := NewGuardServer(s, t.Logf)
	path := socketPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	c := GuardClient()
	c.Path = path
	return c, s.release
}

func TestGuardSide(t *testing.T) {
	c, release := guarded(t)
	waited := make(chan error)
	go func() { waited <- c.Service("restart", "web") }()
	select {
	case err := <-waited:
		t.Errorf("restart has not waited: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if doc, err := c.Services("web"); err != nil || string(doc) != `["web","of many"]` {
		t.Errorf("Services = %s, %v", doc, err)
	}
	if doc, err := c.Services(""); err != nil || string(doc) != `["","of many"]` {
		t.Errorf("Services = %s, %v", doc, err)
	}
	want, _ := services{}.Log(context.Background(), "")
	if text, err := c.ServiceLog("web"); err != nil || !bytes.Equal(text, want) {
		t.Errorf("ServiceLog = %d bytes, %v, want %d", len(text), err, len(want))
	}
	close(release)
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if err := c.Service("stop", "other"); err == nil || err.Error() != "other: there is no such service" {
		t.Errorf("stop of another = %v", err)
	}
	if err := c.Service("status", "web"); err == nil {
		t.Error("status is a command for a service")
	}
}

// What belongs to one socket is refused at the other.
func TestSidesApart(t *testing.T) {
	c, _ := guarded(t)
	if _, err := c.Status(); err == nil || !strings.Contains(err.Error(), "at the other socket") {
		t.Errorf("the guard's status = %v", err)
	}
	if _, err := c.Load(modload.Call{Query: "x"}); err == nil || !strings.Contains(err.Error(), "at the other socket") {
		t.Errorf("the guard loads = %v", err)
	}
	e := start(t, socketPath(t), &backend{}, nil)
	if err := (&Client{Path: e.path}).Service("start", "x"); err == nil || !strings.Contains(err.Error(), "at the other socket") {
		t.Errorf("the engine starts = %v", err)
	}
	gone := GuardClient()
	gone.Path = c.Path + ".gone"
	if _, err := gone.Services(""); !errors.Is(err, ErrNoGuard) {
		t.Errorf("without a guard = %v", err)
	}
}

// G2: clients that wait, and such that send nothing, do not keep others out; too many are told so.
func TestG2GuardCrowd(t *testing.T) {
	c, release := guarded(t)
	silent := make([]int, 4*guardLobby)
	for i := range silent {
		silent[i] = dial(t, c.Path)
		defer unix.Close(silent[i])
	}
	waiting := make(chan error, guardWaiting)
	for range guardWaiting {
		patient := *c
		patient.Patience = time.Minute // it may be sent away while there is a crowd
		go func() { waiting <- patient.Service("start", "web") }()
	}
	limit := time.After(30 * time.Second)
	for {
		_, err := c.Services("")
		if errors.Is(err, ErrBusy) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-limit:
			t.Fatal("nobody is sent away")
		default:
		}
	}
	short := *c
	short.Timeout = 10 * time.Millisecond
	if err := short.Service("stop", "web"); !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, ErrBusy) {
		t.Errorf("one too many = %v", err)
	}
	close(release)
	for range guardWaiting {
		if err := <-waiting; err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Services(""); err != nil {
		t.Errorf("after the crowd: %v", err)
	}
}
