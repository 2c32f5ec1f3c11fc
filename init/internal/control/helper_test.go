package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"hapax/modload"
)

// A backend answers from functions. Those that a test does not set fail it.
type backend struct {
	t      testing.TB
	do     func(ctx context.Context, c modload.Call) ([]modload.Outcome, error)
	remove func(ctx context.Context, name string, flags int) error
	settle func(ctx context.Context) error
	status func() any
	why    func(name string) (modload.Module, bool)
	trace  func(ctx context.Context) <-chan modload.Module
	reload func() error
}

func (b *backend) Do(ctx context.Context, c modload.Call) ([]modload.Outcome, error) {
	if b.do == nil {
		b.t.Errorf("unexpected Do(%+v)", c)
		return nil, modload.ErrNotFound
	}
	return b.do(ctx, c)
}

func (b *backend) Remove(ctx context.Context, name string, flags int) error {
	if b.remove == nil {
		b.t.Errorf("unexpected Remove(%s)", name)
		return modload.ErrNotLoaded
	}
	return b.remove(ctx, name, flags)
}

func (b *backend) Settle(ctx context.Context) error {
	if b.settle == nil {
		b.t.Error("unexpected Settle")
		return nil
	}
	return b.settle(ctx)
}

func (b *backend) Status() any {
	if b.status == nil {
		return "ok"
	}
	return b.status()
}

func (b *backend) Why(name string) (modload.Module, bool) { return b.why(name) }

func (b *backend) Trace(ctx context.Context) <-chan modload.Module { return b.trace(ctx) }

func (b *backend) Reload() error { return b.reload() }

// An engine is a Server that runs.
type engine struct {
	*Server
	path string
	stop func() // returns when Serve has
}

// start runs a Server for b. adjust, which may be nil, is called before it takes clients.
func start(t *testing.T, path string, b *backend, adjust func(*Server)) *engine {
	t.Helper()
	b.t = t
	before := runtime.NumGoroutine()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{Server: NewServer(b, t.Logf), path: path}
	if adjust != nil {
		adjust(e.Server)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Serve(ctx, l) }()
	e.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if e.Stats().Waiting != 0 {
			t.Errorf("%d clients are waiting after the end", e.Stats().Waiting)
		}
	})
	t.Cleanup(func() {
		e.stop()
		// The goroutines of clients that the test has just left may still be ending.
		eventually(t, func() error {
			if n := runtime.NumGoroutine(); n > before {
				return fmt.Errorf("%d goroutines, %d before the start", n, before)
			}
			return nil
		})
	})
	return e
}

// eventually waits until check has no error, as long as only a fault would take.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	limit := time.Now().Add(20 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

// socketPath returns a path that is short enough for an address, in a folder
// that everybody may enter.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "control")
}

// fakeProc makes a /proc in which this process was started by a program of that
// name and with those flags.
func fakeProc(t *testing.T, comm string, flags int) string {
	t.Helper()
	proc := t.TempDir()
	for pid, line := range map[int]string{
		os.Getpid(): fmt.Sprintf("%d (mod probe)) S 77 1 1 0 -1 4194560 0", os.Getpid()),
		77:          fmt.Sprintf("77 (%s) S 2 0 0 0 -1 %d 0", comm, flags),
	} {
		dir := filepath.Join(proc, fmt.Sprint(pid))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "stat"), []byte(line), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return proc
}

// hold is a Do that waits until the client has gone, or release is closed.
func hold(release <-chan struct{}) func(context.Context, modload.Call) ([]modload.Outcome, error) {
	return func(ctx context.Context, c modload.Call) ([]modload.Outcome, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-release:
			return []modload.Outcome{{Module: c.Query, State: modload.Live, New: true}}, nil
		}
	}
}

// waiting waits until n clients wait for an answer.
func (e *engine) waiting(t *testing.T, n int) {
	t.Helper()
	eventually(t, func() error {
		if got := e.Stats().Waiting; got != n {
			return fmt.Errorf("%d clients wait, want %d", got, n)
		}
		return nil
	})
}

// errorOf returns the Error in err.
func errorOf(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error = %v, want one of the engine", err)
	}
	return e
}

// answerWith is a Do that answers at once.
func answerWith(f func(modload.Call) []modload.Outcome) func(context.Context, modload.Call) ([]modload.Outcome, error) {
	return func(_ context.Context, c modload.Call) ([]modload.Outcome, error) { return f(c), nil }
}
