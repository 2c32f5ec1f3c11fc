package service

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// ask gives a command and returns its result once it has one.
func (w *world) ask(v Verb, name string) <-chan error {
	result := make(chan error, 1)
	go func() { result <- w.m.Ask(w.t.Context(), v, name) }()
	w.run(0)
	return result
}

func wantResult(t *testing.T, result <-chan error, want string) {
	t.Helper()
	select {
	case err := <-result:
		if got := "nil"; err != nil && !strings.Contains(err.Error(), want) || err == nil && want != got {
			t.Errorf("result %v, want %s", err, want)
		}
	default:
		t.Errorf("no result, want %s", want)
	}
}

func wantNoResult(t *testing.T, result <-chan error) {
	t.Helper()
	select {
	case err := <-result:
		t.Errorf("result %v already", err)
	default:
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Spec{Name: "db", Ready: Ready{Kind: ReadyFD, FD: 3}, StopTimeout: time.Minute},
			Spec{Name: "web", After: []string{"db"}, StopTimeout: time.Minute, Restart: Always, Delay: time.Hour},
			Spec{Name: "once", Oneshot: true})
		wantResult(t, w.ask(VerbStop, "web"), "nil") // nothing runs yet
		started := w.ask(VerbStart, "web")
		wantNoResult(t, started)
		w.say("db") // it was started as well
		wantResult(t, started, "nil")
		w.wantState("web", Up)
		wantResult(t, w.ask(VerbStart, "web"), "nil")
		if len(w.begun) != 2 {
			t.Errorf("started %v", w.begun)
		}
		// A restart waits for the end and for the start; a stop meanwhile has the last word.
		w.of("db").deaf = true
		db := w.of("db")
		restarted := w.ask(VerbRestart, "db")
		wantNoResult(t, restarted)
		db.die(exited(0))
		w.run(0)
		wantNoResult(t, restarted)
		w.say("db")
		wantResult(t, restarted, "nil")
		w.of("db").deaf = true
		db = w.of("db")
		restarted = w.ask(VerbRestart, "db")
		stopped := w.ask(VerbStop, "db")
		db.die(exited(0))
		w.run(time.Second)
		wantResult(t, restarted, "db: stopped")
		wantResult(t, stopped, "nil")
		w.wantState("db", Stopped)
		w.wantState("web", Up) // what it was after counts at its start alone
		// One that pauses is started at once by hand, but what it is after is waited for.
		w.of("web").die(exited(1))
		w.run(0)
		w.wantState("web", Pausing)
		started = w.ask(VerbStart, "web")
		w.wantState("web", Waiting)
		w.say("db")
		wantResult(t, started, "nil")
		// One that ends before it is ready.
		started = w.ask(VerbStart, "once")
		w.of("once").die(exited(4))
		w.run(0)
		wantResult(t, started, "once: failed: exit status 4")
		started = w.ask(VerbStart, "once")
		w.of("once").die(exited(0))
		w.run(0)
		wantResult(t, started, "nil")
		started = w.ask(VerbStart, "once")
		wantResult(t, started, "nil") // it is done
		restarted = w.ask(VerbRestart, "once")
		w.of("once").die(exited(0))
		w.run(0)
		wantResult(t, restarted, "nil")
		if n := w.m.find("once").starts; n != 3 {
			t.Errorf("once was started %d times, want 3", n)
		}
		wantResult(t, w.ask(VerbStart, "other"), "other: there is no such service")
		w.m.Stop()
		w.run(time.Minute)
		wantResult(t, w.ask(VerbStart, "web"), "going down")
		wantResult(t, w.ask(VerbRestart, "web"), "going down")
		wantResult(t, w.ask(VerbStop, "web"), "nil")
	})
}

// Those who have gone away do not fill the list of those who wait.
func TestManyWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Spec{Name: "x", After: []string{Settled}})
		for range 10 * maxWaiters {
			ctx, cancel := context.WithCancel(t.Context())
			w.m.command(ctx, VerbStart, "x", func(error) { t.Error("an answer for nobody") })
			cancel()
		}
		told := 0
		for range maxWaiters {
			w.m.command(t.Context(), VerbStart, "x", func(err error) {
				if told++; err != nil {
					t.Error(err)
				}
			})
		}
		w.m.command(t.Context(), VerbStart, "x", func(err error) {
			if err == nil || !strings.Contains(err.Error(), "too many") {
				t.Errorf("one too many got %v", err)
			}
		})
		w.m.Reached(Settled)
		w.run(0)
		if told != maxWaiters {
			t.Errorf("%d got an answer, want %d", told, maxWaiters)
		}
	})
}

func TestStatus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Spec{Name: "x"}, Spec{Name: "y"})
		w.m.Start()
		w.run(90 * time.Second)
		var all []Status
		var missing error
		go func() {
			all, _ = w.m.Status(t.Context(), "")
			_, missing = w.m.Status(t.Context(), "z")
		}()
		w.run(time.Millisecond)
		if len(all) != 2 || all[0] != (Status{Name: "x", State: Up, Seconds: 90, Pid: 101, Starts: 1}) {
			t.Errorf("status %+v", all)
		}
		if missing == nil {
			t.Error("z has a status")
		}
	})
}
