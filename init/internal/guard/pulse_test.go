package guard

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/handoff"
)

// playDeaf is an engine that lives and does not answer: the deaf one does not
// even read, the mute one reads.
func playDeaf(part string) {
	fmt.Println("engine: ready")
	if part == "deaf" {
		_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
	}
	select {}
}

// F1: an engine that leaves three questions unanswered is killed; one that
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
