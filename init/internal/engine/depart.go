package engine

import (
	"context"
	"strings"
	"time"

	"hapax/init/internal/fault"
	"hapax/init/internal/handoff"
	"hapax/init/internal/report"
)

// loadPatience is how long one load may hold the switch to the real root, which
// does without it.
const loadPatience = 25 * time.Millisecond

// depart ends the engine's work for the real root: it starts no further load,
// writes the report and lets the guard go on.
//
// Loads that still run are waited for as long as one after the other ends. One
// that does not within loadPatience may take a second or may never return, and
// the root is there without it: the engine stays beside the real root until it
// has ended, at most for hapax.drain, for to end the process is to interrupt the
// init function. Whoever gives hapax.drain= wants to wait for so long instead.
func (e *engine) depart() {
	e.leaving = true
	ctx, cancel := context.WithTimeout(context.Background(), e.params.Drain)
	defer cancel()
	left := e.drain(ctx)
	fault.At("drained")
	if e.stopControl != nil {
		e.stopControl()
	}
	e.modules.tracer.close()
	e.keepMapped(udevData)
	e.clock.Handover = report.Now()
	e.writeReport()
	e.announce()
	fault.At("reported")
	if len(left) == 0 || e.params.DrainGiven {
		e.tell(handoff.Done, "")
		return
	}
	e.tell(handoff.Done, strings.Join(left, " "))
	e.modules.sched.Drain(ctx)
}

// drain waits for the loads that run and returns the names of those that do not
// end in time.
func (e *engine) drain(ctx context.Context) []string {
	if !e.params.DrainGiven {
		var stop context.CancelFunc
		ctx, stop = context.WithCancel(ctx)
		defer stop()
		go e.whileProgress(ctx, stop)
	}
	left := e.modules.sched.Drain(ctx)
	for _, name := range left {
		if e.params.DrainGiven {
			e.log.Warnf("%s is still in its init function after hapax.drain=%v: left behind", name, e.params.Drain)
		} else {
			e.log.Infof("%s is still in its init function: the real root does not wait for it", name)
		}
	}
	return left
}

// whileProgress calls stop when no load has ended for loadPatience.
func (e *engine) whileProgress(ctx context.Context, stop func()) {
	for {
		timer := time.NewTimer(loadPatience)
		select {
		case <-e.ended:
			timer.Stop()
		case <-timer.C:
			stop()
			return
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
