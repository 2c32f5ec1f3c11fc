package service

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// Services start when what they are after is ready, in whichever way, and side by side otherwise.
func TestOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t,
			Spec{Name: "web", After: []string{"db", "setup", Settled}},
			Spec{Name: "setup", Oneshot: true, After: []string{Base}},
			Spec{Name: "db", Ready: Ready{Kind: ReadyFD, FD: 3}, StartTimeout: time.Minute},
			Spec{Name: "log", Ready: Ready{Kind: ReadyFile, Path: "/x"}, StartTimeout: time.Minute},
			Spec{Name: "last", After: []string{"log"}},
		)
		w.m.Start()
		want := func(names ...string) {
			t.Helper()
			w.run(time.Second)
			if !slices.Equal(w.begun, names) {
				t.Errorf("started %v, want %v", w.begun, names)
			}
		}
		want("db", "log")
		w.m.Reached(Base)
		want("db", "log", "setup")
		w.of("setup").die(exited(0))
		w.say("db")
		want("db", "log", "setup")
		w.wantState("setup", Done)
		w.wantState("db", Up)
		w.of("log").isReady = true
		want("db", "log", "setup", "last")
		w.wantState("log", Up)
		if s := w.m.status("web")[0]; s.State != Waiting || s.WaitsFor != Settled {
			t.Errorf("web: %+v, want it to wait for %s", s, Settled)
		}
		w.m.Reached(Settled)
		want("db", "log", "setup", "last", "web")
	})
}

// What becomes of a service that ends by itself.
func TestPolicies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		oneshot bool
		restart Restart
		status  unix.WaitStatus
		state   State
		starts  int // after a while
	}{
		{"daemon, never, good", false, Never, exited(0), Done, 1},
		{"daemon, never, bad", false, Never, exited(1), Failed, 1},
		{"daemon, on failure, good", false, OnFailure, exited(0), Done, 1},
		{"daemon, on failure, signal", false, OnFailure, unix.WaitStatus(unix.SIGSEGV), Up, 2},
		{"daemon, always, good", false, Always, exited(0), Up, 2},
		{"oneshot, never, good", true, Never, exited(0), Done, 1},
		{"oneshot, never, bad", true, Never, exited(1), Failed, 1},
		{"oneshot, on failure, good", true, OnFailure, exited(0), Done, 1},
		{"oneshot, on failure, bad", true, OnFailure, exited(3), Starting, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Spec{Name: "x", Oneshot: c.oneshot, Restart: c.restart, Delay: time.Second})
				w.m.Start()
				w.of("x").die(c.status)
				w.run(500 * time.Millisecond)
				if c.starts == 2 {
					w.wantState("x", Pausing)
				}
				w.run(time.Second)
				w.wantState("x", c.state)
				if len(w.begun) != c.starts {
					t.Errorf("%d starts, want %d", len(w.begun), c.starts)
				}
			})
		})
	}
}

// A program that is not there is a service that has failed.
func TestNoProgram(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Spec{Name: "x"}, Spec{Name: "y", Restart: OnFailure, Delay: time.Second})
		w.born = func(*fake) error { return errNoProgram }
		w.m.Start()
		w.run(2500 * time.Millisecond)
		w.wantState("x", Failed)
		if n := len(w.begun); n != 1+3 {
			t.Errorf("%d starts, want 4: %v", n, w.begun)
		}
		if s := w.m.status("x")[0]; s.Ended != errNoProgram.Error() {
			t.Errorf("x: %+v", s)
		}
	})
}

// E6: a service that always dies is started ten times in two minutes at most, then after a pause again, as with sysvinit.
func TestE6Brake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Spec{Name: "x", Restart: Always, Delay: 100 * time.Millisecond, Brake: defaultBrake()},
			Spec{Name: "slow", Restart: Always, Delay: 100 * time.Millisecond, Brake: defaultBrake()})
		var times []time.Duration
		began := time.Now()
		w.born = func(f *fake) error {
			life := time.Duration(0)
			if f.spec.Name == "slow" {
				life = 13 * time.Second // nine times in two minutes
			} else {
				times = append(times, time.Since(began))
			}
			go func() {
				time.Sleep(life)
				_ = w.m.Do(t.Context(), func() { f.die(exited(1)) })
			}()
			return nil
		}
		w.m.Start()
		w.run(time.Hour)
		if len(times) < 110 || len(times) > 130 {
			t.Errorf("%d starts in an hour, want ten for each five minutes", len(times))
		}
		for i := 10; i < len(times); i++ {
			if d := times[i] - times[i-10]; d < 5*time.Minute {
				t.Errorf("start %d is %v after that ten before it", i, d)
			}
		}
		if n := w.m.find("slow").starts; n < 3600/14 {
			t.Errorf("the slow one was started %d times: the brake held it", n)
		}
		w.m.Stop()
		w.run(time.Minute)
	})
}

// E7: one that does not hear the stop signal is killed, with all that it has started; one that cannot be killed does not hold
// the end of the machine.
func TestE7Deaf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Spec{Name: "deaf", StopTimeout: 10 * time.Second, StopSignal: unix.SIGINT},
			Spec{Name: "parent", StopTimeout: 10 * time.Second},
			Spec{Name: "stuck", StopTimeout: 10 * time.Second, After: []string{"deaf"}})
		w.m.Start()
		deaf, parent, stuck := w.of("deaf"), w.of("parent"), w.of("stuck")
		deaf.deaf, deaf.rest = true, true
		parent.rest = true
		stuck.deaf, stuck.immortal = true, true
		end := w.m.Stop()
		w.run(time.Second)
		if len(deaf.signalled) != 0 {
			t.Error("deaf was told before what is after it was down")
		}
		if parent.rest {
			t.Error("what the parent has left was not killed")
		}
		w.run(10*time.Second + killPatience)
		if !slices.Equal(deaf.signalled, []unix.Signal{unix.SIGINT}) {
			t.Errorf("deaf got %v, want SIGINT", deaf.signalled)
		}
		select {
		case <-end:
			t.Error("all is said to be down while deaf runs")
		default:
		}
		w.run(10*time.Second + time.Second)
		select {
		case <-end:
		default:
			t.Errorf("the end does not come: %v", w.m.status(""))
		}
		if deaf.alive || deaf.rest {
			t.Error("deaf was not killed")
		}
		if got := w.m.Running(); got != "stuck" {
			t.Errorf("Running = %q, want stuck", got)
		}
	})
}

// A service that does not get ready in time is ended, and that is a failure.
func TestStartTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Spec{Name: "x", Ready: Ready{Kind: ReadyFD, FD: 3}, StartTimeout: 5 * time.Second, StopTimeout: time.Second},
			Spec{Name: "y", Oneshot: true, StartTimeout: 5 * time.Second, Restart: OnFailure, Delay: time.Second})
		w.m.Start()
		x := w.of("x")
		w.run(6 * time.Second)
		w.wantState("x", Failed)
		if s := w.m.status("x")[0]; s.Ended != "not ready after 5s" {
			t.Errorf("x: %+v", s)
		}
		x.sayReady() // too late, and of a process that is gone
		w.run(time.Second)
		w.wantState("x", Failed)
		if n := w.m.find("y").starts; n != 2 {
			t.Errorf("y was started %d times, want 2", n)
		}
	})
}

// At the end each service is told when nothing that is after it runs any more, by way of one that does not run, too.
func TestReverse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Spec{Name: "a", StopTimeout: time.Minute}, Spec{Name: "b", Oneshot: true, After: []string{"a"}},
			Spec{Name: "c", After: []string{"b"}, StopTimeout: time.Minute}, Spec{Name: "d", StopTimeout: time.Minute})
		var ends []string
		w.watch = func(event string) {
			if event[:3] == "end" {
				ends = append(ends, event[4:])
			}
		}
		w.m.Start()
		w.of("b").die(exited(0))
		w.run(time.Second)
		w.of("c").deaf = true
		c := w.of("c")
		end := w.m.Stop()
		w.run(time.Second)
		c.die(exited(0))
		w.run(time.Second)
		<-end
		if want := []string{"b", "d", "c", "a"}; !slices.Equal(ends, want) {
			t.Errorf("ended %v, want %v", ends, want)
		}
		<-w.m.Stop() // once more
	})
}

// A hundred services, each after all before it, have more ways from the last to the first than can be counted.
func TestManyWays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var specs []Spec
		var names []string
		for i := range 100 {
			name := fmt.Sprint("s", i)
			specs = append(specs, Spec{Name: name, After: slices.Clone(names), StopTimeout: time.Minute})
			names = append(names, name)
		}
		w := newWorld(t, specs...)
		w.m.Start()
		w.run(time.Second)
		end := w.m.Stop()
		w.run(time.Second)
		<-end
	})
}

// A service on a disk that hangs keeps nobody waiting but itself, and has one look at a time, however often it is started.
func TestHungProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Spec{Name: "x", Ready: Ready{Kind: ReadyFile, Path: "/x"}, StartTimeout: time.Second, Restart: Always, Delay: time.Second}, Spec{Name: "y"})
		looks, hang := 0, make(chan struct{})
		w.born = func(f *fake) error {
			f.look = func() bool {
				looks++
				<-hang
				return true
			}
			return nil
		}
		w.m.Start()
		w.run(10 * time.Second)
		w.wantState("y", Up)
		if n := w.m.find("x").starts; n < 4 || looks != 1 {
			t.Errorf("looked %d times in %d starts, want once in several", looks, n)
		}
		close(hang)
		w.run(10 * time.Second)
		w.wantState("x", Up)
		end := w.m.Stop()
		w.run(time.Second)
		<-end
	})
}

// What could not set the machine up in full does not keep the services away; any other service that has failed does.
func TestAfterFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Spec{Name: Base, Oneshot: true}, Spec{Name: "x", Oneshot: true, After: []string{Base}}, Spec{Name: "y", After: []string{"x"}})
		w.m.Start()
		w.of(Base).die(exited(2))
		w.run(0)
		w.of("x").die(exited(2))
		w.run(time.Hour)
		w.wantState(Base, Failed)
		w.wantState("x", Failed)
		w.wantState("y", Waiting)
	})
}

// Nothing that was planned happens after Stop.
func TestStopCancels(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Spec{Name: "x", Restart: Always, Delay: time.Second}, Spec{Name: "y", After: []string{Settled}})
		w.m.Start()
		w.of("x").die(exited(1))
		w.run(0)
		<-w.m.Stop()
		w.m.Reached(Settled)
		w.run(time.Hour)
		w.wantState("x", Stopped)
		w.wantState("y", Stopped)
		if len(w.begun) != 1 {
			t.Errorf("started %v", w.begun)
		}
	})
}
