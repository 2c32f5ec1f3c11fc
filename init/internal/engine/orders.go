package engine

import (
	"hapax/init/internal/fault"
	"hapax/init/internal/handoff"
)

// obey passes the guard's orders to the loop.
func (e *engine) obey() {
	for {
		m, err := e.link.Receive()
		if err != nil {
			return // the guard is the kernel's PID 1: there is nobody after it
		}
		e.orders <- m.Verb
	}
}

// obeyed acts on an order and reports whether the engine has to end.
func (e *engine) obeyed(order handoff.Verb) bool {
	switch order {
	case handoff.Drain:
		fault.At("order")
		e.depart()
		return true
	case handoff.Stay:
		e.hunt.giveUp()
		e.blocks.release()
		e.announce()
	case handoff.Go:
		e.hunt.resumed()
	case handoff.Ping:
		e.tell(handoff.Pong, "")
	case handoff.Reload:
		if err := e.modules.reload(); err != nil {
			e.log.Warnf("%v", err)
		}
	}
	return false
}

func (e *engine) tell(v handoff.Verb, text string) {
	if err := e.link.Send(handoff.Message{Verb: v, Text: text}); err != nil {
		e.log.Errorf("guard: %v", err)
	}
}
