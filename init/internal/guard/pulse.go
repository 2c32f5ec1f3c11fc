package guard

import (
	"time"

	"hapax/init/internal/handoff"
	"hapax/init/internal/slim"
)

// An engine that lives and does not answer is as good as dead. It is asked every
// pulseEvery, and killed when it has left pulseMisses questions in a row
// unanswered. If a thread in the kernel keeps what is left of it for longer than
// killGrace, another is started beside that: it can do nothing any more.
//
// A minute, for one on a machine of 255 emulated processors is slow and no more.
const (
	pulseEvery  = 10 * time.Second
	pulseMisses = 6
	killGrace   = 2 * time.Second
)

// A pulse is what the guard knows of the engine's being alive.
type pulse struct {
	next   <-chan time.Time // fires when the engine is to be asked
	missed int              // questions without an answer
	gone   <-chan time.Time // fires when an engine that was killed should have ended
}

// checkPulse asks the engine whether it lives, or kills it.
func (g *guard) checkPulse() {
	g.pulse.next = nil
	switch {
	case g.engine == 0 || g.ending() || g.target != nil: // one that leaves has its own limit
		return
	case g.pulse.missed >= pulseMisses:
		g.log.Errorf("the engine has not answered for %v: killed", pulseMisses*pulseEvery)
		g.killEngine()
		return
	}
	g.pulse.missed++
	g.send(handoff.Ping)
	if g.stirred {
		g.stirred = false
		slim.Trim()
	}
	g.pulse.next = time.After(pulseEvery)
}

// giveUpOn forgets an engine that was killed and does not end.
func (g *guard) giveUpOn() {
	g.pulse.gone = nil
	if g.engine == 0 || g.ending() {
		return
	}
	g.forget(g.engine)
	g.engine = 0
	g.link.Close()
	g.engineLost("the engine is stuck in the kernel")
}
