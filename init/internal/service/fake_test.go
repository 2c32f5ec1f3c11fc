package service

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// A world is a System without processes. Its run is the guard's loop, in virtual time.
type world struct {
	t     *testing.T
	m     *Manager
	begun []string // names of what was started, in order
	procs map[int]*fake
	next  int                // the last pid
	ends  []end              // that nobody has been told of
	born  func(*fake) error  // called for each start
	watch func(event string) // called for each start and end, "" at other times
}

type end struct {
	pid    int
	status unix.WaitStatus
}

// A fake is a process of a world.
type fake struct {
	w         *world
	spec      *Spec
	pid       int
	alive     bool        // main process
	rest      bool        // something else of it
	deaf      bool        // to the stop signal
	immortal  bool        // to SIGKILL
	isReady   bool        // for Ready
	look      func() bool // in its place
	sayReady  func()
	signalled []unix.Signal
}

func newWorld(t *testing.T, specs ...Spec) *world {
	w := &world{t: t, procs: map[int]*fake{}, next: 100, born: func(*fake) error { return nil }, watch: func(string) {}}
	for i := range specs {
		base := newSpec(specs[i].Name)
		if specs[i].Exec == "" {
			specs[i].Exec = "/bin/" + specs[i].Name
		}
		if specs[i].StopSignal == 0 {
			specs[i].StopSignal = base.StopSignal
		}
	}
	if err := check(specs); err != nil {
		t.Fatal(err)
	}
	w.m = New(specs, w, nil)
	return w
}

func (w *world) Start(s *Spec, ready func()) (Process, error) {
	for _, p := range w.procs {
		if p.spec.Name == s.Name && (p.alive || p.rest) {
			w.t.Errorf("%s is started while process %d of it is there", s.Name, p.pid)
		}
	}
	w.begun = append(w.begun, s.Name)
	w.next++
	f := &fake{w: w, spec: s, pid: w.next, alive: true, sayReady: ready}
	if err := w.born(f); err != nil {
		return nil, err
	}
	w.procs[f.pid] = f
	w.watch("start " + s.Name)
	return f, nil
}

func (w *world) Log(string) []byte { return nil }

func (f *fake) Pid() int { return f.pid }

// Ready is called by one goroutine at a time, and not while the test sets what it reads.
func (f *fake) Ready() bool {
	if f.look != nil {
		return f.look()
	}
	return f.isReady
}
func (f *fake) Gone() bool { return !f.alive && !f.rest }

func (f *fake) Signal(s unix.Signal) {
	f.signalled = append(f.signalled, s)
	if !f.deaf {
		f.die(unix.WaitStatus(s))
	}
}

func (f *fake) Kill() {
	if f.immortal {
		return
	}
	f.rest = false
	f.die(unix.WaitStatus(unix.SIGKILL))
}

// die ends the main process; the guard has still to reap it.
func (f *fake) die(status unix.WaitStatus) {
	if f.alive {
		f.alive = false
		f.w.ends = append(f.w.ends, end{f.pid, status})
	}
}

// exited is the status of a process that has exited with a code.
func exited(code int) unix.WaitStatus { return unix.WaitStatus(code << 8) }

// of returns the running process of a service.
func (w *world) of(name string) *fake {
	w.t.Helper()
	for _, p := range w.procs {
		if p.spec.Name == name && p.alive {
			return p
		}
	}
	w.t.Fatalf("%s does not run", name)
	return nil
}

// run lets time go by.
func (w *world) run(d time.Duration) {
	over := time.After(d)
	for {
		for len(w.ends) > 0 {
			e := w.ends[0]
			w.ends = w.ends[1:]
			w.watch("end " + w.procs[e.pid].spec.Name)
			if !w.m.Ended(e.pid, e.status) {
				w.t.Errorf("nobody knows process %d", e.pid)
			}
		}
		select {
		case <-w.m.Due():
			w.m.Tick()
		case f := <-w.m.Work():
			f()
		case <-over:
			synctest.Wait()
			if len(w.ends) == 0 && len(w.m.Work()) == 0 {
				return
			}
			over = time.After(0)
		}
	}
}

// state returns the state of a service.
func (w *world) state(name string) State { return w.m.find(name).state }

func (w *world) wantState(name string, want State) {
	w.t.Helper()
	if got := w.state(name); got != want {
		w.t.Errorf("%s is %v, want %v", name, got, want)
	}
}

// say makes a service say that it is ready, as its descriptor would: from another goroutine.
func (w *world) say(name string) {
	go w.of(name).sayReady()
	w.run(0)
}

var errNoProgram = errors.New("no such file")
