package service

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// Whatever the graph, the exits and the commands: nothing is started by hand or for the first time before all that it is after
// is ready, never are there two processes of a service, the brake holds, and in the end nothing runs, in the reverse order.
func TestAnyHistory(t *testing.T) {
	t.Parallel()
	rounds := 300
	if testing.Short() {
		rounds = 60
	}
	for seed := range rounds {
		synctest.Test(t, func(t *testing.T) { anyHistory(t, rand.New(rand.NewPCG(uint64(seed), 8))) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// A history is one random life of a random set of services.
type history struct {
	*world
	r      *rand.Rand
	starts map[string][]time.Time
	ending bool
}

func anyHistory(t *testing.T, r *rand.Rand) {
	h := &history{world: newWorld(t, randomSpecs(r)...), r: r, starts: map[string][]time.Time{}}
	h.born = h.check
	h.m.Start()
	for range 60 {
		h.step()
		h.run(time.Duration(r.Int64N(int64(20 * time.Second))))
	}
	h.ending = true
	end := h.m.Stop()
	for range 10 {
		h.step()
		h.run(time.Duration(r.Int64N(int64(2 * time.Second))))
	}
	h.run(time.Hour)
	select {
	case <-end:
	default:
		t.Errorf("the end does not come: %+v", h.m.status(""))
	}
	for _, p := range h.procs {
		if (p.alive || p.rest) && !p.immortal {
			t.Errorf("a process of %s is left", p.spec.Name)
		}
	}
	for _, u := range h.m.units {
		if s := u.state; !u.stuck && s != Stopped && s != Done && s != Failed {
			t.Errorf("%s is %v in the end", u.Name, s)
		}
	}
}

func randomSpecs(r *rand.Rand) []Spec {
	specs := make([]Spec, 1+r.IntN(12))
	pick := func(d ...time.Duration) time.Duration { return d[r.IntN(len(d))] }
	for i := range specs {
		s := Spec{
			Name: fmt.Sprintf("s%d", i), Oneshot: r.IntN(4) == 0, Restart: Restart(r.IntN(3)),
			Delay: pick(0, time.Millisecond, time.Second), StopTimeout: pick(0, time.Second, time.Minute),
			StartTimeout: pick(0, time.Second, time.Minute), Ready: Ready{Kind: ReadyKind(r.IntN(5))},
		}
		if r.IntN(2) == 0 {
			s.Brake = Brake{1 + r.IntN(5), pick(time.Second, time.Minute), pick(2*time.Minute, time.Hour)}
		}
		for j := range i {
			if r.IntN(3) == 0 {
				s.After = append(s.After, fmt.Sprintf("s%d", j))
			}
		}
		if r.IntN(4) == 0 {
			s.After = append(s.After, []string{Base, Settled}[r.IntN(2)])
		}
		specs[i] = s
	}
	r.Shuffle(len(specs), func(i, j int) { specs[i], specs[j] = specs[j], specs[i] })
	return specs
}

// check judges a start, and gives the process a character.
func (h *history) check(f *fake) error {
	u := h.m.find(f.spec.Name)
	if h.ending {
		h.t.Errorf("%s is started at the end", u.Name)
	}
	if u.again && u.starts == 1 {
		h.t.Errorf("the first start of %s is one by itself", u.Name)
	}
	if !u.again {
		for _, name := range u.After {
			if d := h.m.find(name); d != nil && !d.ready() || d == nil && !h.m.reached[name] {
				h.t.Errorf("%s is started before %s is ready", u.Name, name)
			}
		}
	}
	times := append(h.starts[u.Name], time.Now())
	h.starts[u.Name] = times
	if b := u.Brake; b.Starts > 0 && len(times) > b.Starts && times[len(times)-1].Sub(times[len(times)-1-b.Starts]) < b.Within {
		h.t.Errorf("%s is started %d times within %v, the brake is %+v", u.Name, b.Starts+1, b.Within, b)
	}
	if h.r.IntN(10) == 0 {
		return errNoProgram
	}
	f.deaf, f.rest, f.immortal, f.isReady = h.r.IntN(4) == 0, h.r.IntN(4) == 0, h.r.IntN(40) == 0, h.r.IntN(2) == 0
	if f.rest && f.immortal {
		f.immortal = false // what has lost its main process is not looked for
	}
	return nil
}

// step does something to the services.
func (h *history) step() {
	u := h.m.units[h.r.IntN(len(h.m.units))]
	switch h.r.IntN(8) {
	case 0:
		h.m.Reached(Base)
	case 1:
		h.m.Reached(Settled)
	case 2:
		h.m.command(h.t.Context(), VerbStop, u.Name, func(error) {})
	case 3:
		h.byHand(u)
		verb := []Verb{VerbStart, VerbRestart}[h.r.IntN(2)]
		h.m.command(h.t.Context(), verb, u.Name, func(error) {})
	default:
		if p, ok := u.proc.(*fake); ok && p.alive {
			switch h.r.IntN(3) {
			case 0:
				p.die(exited(h.r.IntN(2)))
			case 1:
				p.die(unix.WaitStatus(unix.SIGKILL))
			case 2:
				p.isReady = true
				if u.Ready.Kind == ReadyFD {
					go p.sayReady()
				}
			}
		}
	}
	h.order()
}

// byHand has the brake begin anew, for what is started by hand.
func (h *history) byHand(u *unit) {
	h.starts[u.Name] = nil
	for _, name := range u.After {
		if d := h.m.find(name); d != nil {
			h.byHand(d)
		}
	}
}

// order holds that at the end nobody is told to stop while something runs that is after him.
func (h *history) order() {
	if !h.ending {
		return
	}
	for _, u := range h.m.units {
		if p, ok := u.proc.(*fake); !ok || u.then != toStopped || u.state != Stopping || len(p.signalled) == 0 {
			continue
		}
		for _, d := range u.dependants {
			if d.state == Up || d.state == Starting {
				h.t.Errorf("%s is stopped while %s is %v", u.Name, d.Name, d.state)
			}
		}
	}
}
