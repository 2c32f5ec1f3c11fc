package guard

import (
	"testing"
	"time"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/handoff"
	"hapax/init/internal/switchroot"
)

// F1: an engine that leaves six questions unanswered is killed; one that
// answers is not.
func TestF1Pulse(t *testing.T) {
	t.Parallel()
	for _, answers := range []bool{true, false} {
		guardEnd, f, err := handoff.Pair()
		if err != nil {
			t.Fatal(err)
		}
		defer guardEnd.Close()
		defer f.Close()
		g := &guard{params: cmdline.Parse(""), engine: 1 << 30, link: guardEnd} // no such process can be
		checks := 0
		for ; g.pulse.gone == nil && checks < 100; checks++ {
			g.checkPulse()
			if answers {
				g.message(handoff.Message{Verb: handoff.Pong})
			}
		}
		if killed := g.pulse.gone != nil; killed == answers || killed && checks != pulseMisses+1 {
			t.Errorf("answers %v, killed %v after %d checks", answers, killed, checks)
		}
	}
}

// F1: an engine that ends while a shell of rd.break= holds up the root that it
// has mounted is not missed; the one that ends before is.
func TestF1CheckedRootStays(t *testing.T) {
	t.Parallel()
	for _, checked := range []*switchroot.Target{nil, {Root: "/sysroot"}} {
		link, f, err := handoff.Pair()
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		g := &guard{params: cmdline.Parse(""), engine: 7, link: link, checked: checked, since: time.Now()}
		g.engineEnded(0)
		if again := g.start != nil; again != (checked == nil) || g.engine != 0 {
			t.Errorf("root %v: another engine is planned: %v", checked, again)
		}
	}
}
