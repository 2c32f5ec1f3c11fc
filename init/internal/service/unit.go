package service

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// A State is where a service is; the package comment has the ways between them.
type State int

// The states.
const (
	Stopped State = iota
	Waiting
	Starting
	Up
	Done
	Stopping
	Pausing
	Failed
)

func (s State) String() string {
	return [...]string{"stopped", "waiting", "starting", "up", "done", "stopping", "pausing", "failed"}[s]
}

// MarshalText returns the word for the state.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// An outcome is what becomes of a service when nothing of its process is left.
type outcome int

const (
	toStopped outcome = iota
	toFailed
	toDone
	toPause // and then to a start by itself
	toStart // by hand: as the first one
)

// A unit is a service with what became of it.
type unit struct {
	Spec
	state      State
	since      time.Time // of the state
	dependants []*unit   // those that are after this one

	proc   Process // nil while nothing runs
	alive  bool    // the main process has not been reaped
	killed bool    // everything of it was killed
	stuck  bool    // and did not go
	then   outcome // of the end that is under way

	look    time.Duration // between two looks
	looking bool          // Ready has been called and has not returned
	due     time.Time     // of the next look at what nobody tells; zero for none
	limit   time.Time     // of what the service may take; zero for none
	starts  int           // since the beginning
	recent  []time.Time   // starts that the brake counts
	again   bool          // the next start is by itself, so nothing is waited for
	ended   string        // how the last process ended, for people
	good    bool          // with status 0, by itself

	waiters []waiter
}

// A waiter is somebody who wants to know how a command has ended.
type waiter struct {
	ctx  context.Context // ends when nobody waits any more
	stop bool            // for its end; else for its being ready
	done func(error)
}

// ready reports whether what is after this service may start. A machine that could not be set up in full is of more use with its
// services than without.
func (u *unit) ready() bool {
	return u.state == Up || u.state == Done || u.Name == Base && u.state == Failed
}

// down reports whether nothing of the service runs, or nothing that could be ended.
func (u *unit) down() bool { return u.proc == nil || u.stuck }

// clearAbove reports whether nothing runs any more that is after u. What it finds out is kept in known, for there may be very many
// ways from one service to another.
func (u *unit) clearAbove(known map[*unit]bool) bool {
	if clear, ok := known[u]; ok {
		return clear
	}
	clear := true
	for _, d := range u.dependants {
		clear = clear && d.down() && d.clearAbove(known)
	}
	known[u] = clear
	return clear
}

// enter changes the state, ends what belonged to the one before, and tells those who have waited for it.
func (u *unit) enter(s State) {
	u.state, u.since = s, time.Now()
	u.due, u.limit, u.look = time.Time{}, time.Time{}, 0
	waiting := u.waiters
	u.waiters = nil
	for _, w := range waiting {
		if w.ctx.Err() == nil && !u.tell(w) {
			u.waiters = append(u.waiters, w)
		}
	}
}

// tell tells a waiter the result, if there is one.
func (u *unit) tell(w waiter) bool {
	switch {
	case u.state == Starting || u.state == Stopping || u.state == Waiting:
		return false
	case w.stop && (u.state == Up || u.state == Pausing):
		return false
	case w.stop || u.ready():
		w.done(nil)
	case u.ended != "":
		w.done(&Error{u.Name, u.state.String() + ": " + u.ended})
	default:
		w.done(&Error{u.Name, u.state.String()})
	}
	return true
}

// lookAgain plans another look, after a pause that doubles.
func (u *unit) lookAgain(now time.Time) {
	const first, most = 5 * time.Millisecond, 250 * time.Millisecond
	u.look = min(max(2*u.look, first), most)
	u.due = now.Add(u.look)
}

// pause returns how long a service that is to be started by itself has to wait, and whether it is its brake that says so.
func (u *unit) pause(now time.Time) (time.Duration, bool) {
	b := u.Brake
	recent := u.recent[:0]
	for _, t := range u.recent {
		if now.Sub(t) < b.Within {
			recent = append(recent, t)
		}
	}
	u.recent = recent
	if b.Starts == 0 || len(recent) < b.Starts {
		return u.Delay, false
	}
	u.recent = nil
	return max(b.Pause, u.Delay), true
}

// An Error is what a command for a service could not do.
type Error struct {
	Name string
	Text string
}

func (e *Error) Error() string { return e.Name + ": " + e.Text }

// outcomeOf returns what the restart policy makes of an end that nobody asked for.
func (u *unit) outcomeOf(good bool) outcome {
	switch {
	case u.Restart == Always && !(u.Oneshot && good), u.Restart == OnFailure && !good:
		return toPause
	case good:
		return toDone
	}
	return toFailed
}

// Describe returns how a process ended, for people.
func Describe(status unix.WaitStatus) string {
	switch {
	case status.Signaled():
		return "signal " + signalName(status.Signal())
	case status.Exited():
		return "exit status " + itoa(status.ExitStatus())
	}
	return "status " + itoa(int(status))
}
