package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/modload"
)

func TestLoad(t *testing.T) {
	want := modload.Call{
		Query: "fs-ext4", Params: `a=1 b="x y"`, Flags: 3, Asker: "dm_mod", Blacklist: true, IgnoreInstall: true,
		Origin: modload.Origin{Kind: modload.Named, By: "some (shell"},
	}
	failed := &modload.LoadError{Module: "ext4", Op: "finit_module", Err: unix.ENOEXEC}
	e := start(t, socketPath(t), &backend{do: func(_ context.Context, c modload.Call) ([]modload.Outcome, error) {
		if diff := cmp.Diff(want, c); diff != "" {
			t.Errorf("call (-want +got):\n%s", diff)
		}
		return []modload.Outcome{
			{Module: "ext4", State: modload.Failed, Err: failed},
			{Module: "ext2", State: modload.Live, New: true},
			{Module: "ext3", State: modload.Builtin},
		}, nil
	}}, func(s *Server) { s.proc = fakeProc(t, "some (shell", 0x400100) })
	call := want
	call.Origin = modload.Origin{}
	got, err := (&Client{Path: e.path}).Load(call)
	if err != nil || len(got) != 3 {
		t.Fatalf("Load = %v, %v", got, err)
	}
	if !errors.Is(got[0].Err, unix.ENOEXEC) || got[0].Err.Error() != failed.Error() || errors.Is(got[0].Err, modload.ErrRefused) {
		t.Errorf("error of the first outcome = %v", got[0].Err)
	}
	got[0].Err = nil
	wantOutcomes := []modload.Outcome{
		{Module: "ext4", State: modload.Failed}, {Module: "ext2", State: modload.Live, New: true}, {Module: "ext3", State: modload.Builtin},
	}
	if diff := cmp.Diff(wantOutcomes, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

// Every error that the Scheduler has arrives as that error.
func TestErrors(t *testing.T) {
	give := make(chan error, 1)
	e := start(t, socketPath(t), &backend{do: func(context.Context, modload.Call) ([]modload.Outcome, error) { return nil, <-give }}, nil)
	c := Client{Path: e.path}
	for _, w := range words() {
		if w.word == wordBusy || w.err == context.DeadlineExceeded {
			continue // the client's own
		}
		sent := &modload.LoadError{Module: "x", Op: "y", Err: w.err}
		give <- sent
		_, err := c.Load(modload.Call{Query: "x"})
		if !errors.Is(err, w.err) || errorOf(t, err).Word != w.word {
			t.Errorf("%v arrives as %v (%s)", sent, err, errorOf(t, err).Word)
		}
	}
	give <- fmt.Errorf("say\x00 %s", strings.Repeat("long ", 4000))
	_, err := c.Load(modload.Call{Query: "x"})
	if got := errorOf(t, err); got.Word != wordError || got.Text != "say" {
		t.Errorf("error = %q", got)
	}
}

func TestOtherRequests(t *testing.T) {
	module := modload.Module{Name: "loop", State: modload.Live, Origin: modload.Origin{Kind: modload.Uevent, By: "/devices/x"}, Asked: 2}
	large := strings.Repeat("much ", 200_000)
	var reloaded atomic.Bool
	e := start(t, socketPath(t), &backend{
		remove: func(_ context.Context, name string, flags int) error {
			if name != "loop" || flags != 2048 {
				t.Errorf("Remove(%s, %d)", name, flags)
			}
			return &modload.LoadError{Module: name, Op: "remove", Err: modload.ErrInUse}
		},
		settle: func(context.Context) error { return nil },
		status: func() any { return []string{large} },
		why:    func(name string) (modload.Module, bool) { return module, name == "loop" },
		trace: func(context.Context) <-chan modload.Module {
			ch := make(chan modload.Module, 2)
			ch <- module
			ch <- module
			close(ch)
			return ch
		},
		reload: func() error { reloaded.Store(true); return nil },
	}, nil)
	c := Client{Path: e.path}
	if err := c.Remove("loop", 2048); !errors.Is(err, modload.ErrInUse) {
		t.Errorf("Remove = %v", err)
	}
	if err := errors.Join(c.Settle(), c.Reload()); err != nil || !reloaded.Load() {
		t.Errorf("Settle and Reload = %v, reloaded is %v", err, reloaded.Load())
	}
	if got, err := c.Status(); err != nil || string(got) != `["`+large+`"]` {
		t.Errorf("Status = %d bytes, %v", len(got), err)
	}
	want, err := json.Marshal(module)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Why("loop"); err != nil || string(got) != string(want) {
		t.Errorf("Why = %s, %v", got, err)
	}
	if _, err := c.Why("pool"); !errors.Is(err, modload.ErrNotFound) {
		t.Errorf("Why of an unknown module = %v", err)
	}
	var traced []string
	if err := c.Trace(func(doc []byte) error { traced = append(traced, string(doc)); return nil }); err != nil {
		t.Errorf("Trace = %v", err)
	}
	if diff := cmp.Diff([]string{string(want), string(want)}, traced); diff != "" {
		t.Errorf("trace (-want +got):\n%s", diff)
	}
}

// A client that goes away gives up its wait.
func TestCancel(t *testing.T) {
	ended := make(chan error, 1)
	e := start(t, socketPath(t), &backend{do: func(ctx context.Context, _ modload.Call) ([]modload.Outcome, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}}, nil)
	fd := dial(t, e.path)
	say(t, fd, request{verb: verbLoad, call: modload.Call{Query: "x"}}.encode())
	e.waiting(t, 1)
	unix.Close(fd)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the context ended with %v", err)
	}
	e.waiting(t, 0)
}

// The end of the engine is an answer, too.
func TestEnd(t *testing.T) {
	e := start(t, socketPath(t), &backend{do: hold(nil)}, nil)
	answers := make(chan error)
	go func() {
		_, err := (&Client{Path: e.path}).Load(modload.Call{Query: "x"})
		answers <- err
	}()
	e.waiting(t, 1)
	idle := dial(t, e.path)
	defer unix.Close(idle)
	eventually(t, func() error {
		if e.Stats().Clients != 2 {
			return errors.New("the idle client was not accepted")
		}
		return nil
	})
	go e.stop()
	if err := <-answers; !errors.Is(err, context.Canceled) {
		t.Errorf("a client that waits is told %v", err)
	}
	if a, err := hear(idle); err != nil || !errors.Is(a.err, modload.ErrDraining) {
		t.Errorf("a client without a request is told %v, %v", a, err)
	}
	e.stop()
	if _, err := (&Client{Path: e.path, Patience: time.Hour}).Status(); !errors.Is(err, ErrNoEngine) {
		t.Errorf("afterwards: %v, want ErrNoEngine", err)
	}
}

// dial connects.
func dial(t *testing.T, path string) int {
	t.Helper()
	fd, err := (&Client{Path: path}).connect()
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// say sends a packet.
func say(t *testing.T, fd int, packet []byte) {
	t.Helper()
	if err := unix.Send(fd, packet, unix.MSG_NOSIGNAL); err != nil {
		t.Fatal(err)
	}
}

// hear receives one answer.
func hear(fd int) (answer, error) {
	buf := make([]byte, maxPart+64)
	n, err := receive(fd, buf, time.Now().Add(20*time.Second))
	if err != nil {
		return answer{}, err
	}
	return parseAnswer(buf[:n])
}
