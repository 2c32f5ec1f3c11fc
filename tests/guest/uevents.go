package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"hapax/tests/internal/guest"
	"hapax/uevent"
)

// maxEvents bounds the recorder's memory. A coldplug by udevadm trigger makes some two thousand.
const maxEvents = 1 << 16

// A recorder keeps all uevents from its start on, with the time at which each was received.
type recorder struct {
	mu     sync.Mutex // protects what follows
	events []guest.Uevent
	err    error // why recording ended, or what was lost
}

// record starts to record. Events that the kernel sends after it has returned are not missed.
func record() *recorder {
	r := &recorder{}
	conn, err := uevent.Listen()
	if err != nil {
		r.err = err
		return r
	}
	go r.run(conn)
	return r
}

// run records until the socket fails.
func (r *recorder) run(conn *uevent.Conn) {
	defer conn.Close()
	for {
		e, err := conn.Receive()
		if err != nil {
			r.add(guest.Uevent{}, err)
			if errors.Is(err, uevent.ErrOverrun) {
				continue
			}
			return
		}
		driver, _ := e.Var("DRIVER")
		modalias, _ := e.Var("MODALIAS")
		r.add(guest.Uevent{
			At: monotonic(), Action: string(e.Action), DevPath: strings.Clone(e.DevPath), Subsystem: strings.Clone(e.Subsystem),
			Driver: strings.Clone(driver), Modalias: strings.Clone(modalias),
		}, nil)
	}
}

func (r *recorder) add(e guest.Uevent, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		r.err = err
	case len(r.events) == maxEvents:
		r.err = fmt.Errorf("more than %d events", maxEvents)
	default:
		r.events = append(r.events, e)
	}
}

// since returns the events from index from on. Once an event has been lost it only fails.
func (r *recorder) since(from int) ([]guest.Uevent, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	if from < 0 || from > len(r.events) {
		return nil, fmt.Errorf("index %d: %d events so far", from, len(r.events))
	}
	return append([]guest.Uevent{}, r.events[from:]...), nil
}
