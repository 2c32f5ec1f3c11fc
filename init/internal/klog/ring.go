package klog

import (
	"io"
	"sync"
	"time"
)

// A Ring is a writer that never waits for the one behind it: a terminal that
// is stopped by XOFF, a serial line that nobody reads, a console that hangs.
// It takes up to its size in bytes; what does not fit is dropped, counted, and
// told of once there is room again.
//
// Write and Flush may be called concurrently. Each Write reaches the writer
// behind as one Write, in order.
type Ring struct {
	w    io.Writer
	size int
	lost func(n int) []byte // the line that tells of n dropped writes

	mu      sync.Mutex // protects what follows
	queue   [][]byte
	bytes   int // in queue and in the write under way
	dropped int
	writing bool          // a goroutine is at it
	empty   chan struct{} // closed when all is written; nil while nobody waits
}

// NewRing returns a Ring before w.
func NewRing(w io.Writer, size int, lost func(n int) []byte) *Ring {
	return &Ring{w: w, size: size, lost: lost}
}

// Write takes p, or drops it, and always succeeds.
func (r *Ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bytes+len(p) > r.size {
		r.dropped++
		return len(p), nil
	}
	r.queue = append(r.queue, append([]byte(nil), p...))
	r.bytes += len(p)
	if !r.writing {
		r.writing = true
		go r.run()
	}
	return len(p), nil
}

// Dropped returns how many writes were dropped and not yet told of.
func (r *Ring) Dropped() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped
}

// Flush waits until all that was written before has left the Ring, or for
// limit. It reports whether it has.
func (r *Ring) Flush(limit time.Duration) bool {
	r.mu.Lock()
	if r.bytes == 0 {
		r.mu.Unlock()
		return true
	}
	if r.empty == nil {
		r.empty = make(chan struct{})
	}
	empty := r.empty
	r.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-empty:
		return true
	case <-timer.C:
		return false
	}
}

// run writes until nothing is left.
func (r *Ring) run() {
	for p := r.next(); p != nil; p = r.next() {
		_, _ = r.w.Write(p) // an error leaves nobody to tell
		r.written(len(p))
	}
}

// next takes the next write. If there is none, it returns nil and nobody is
// writing. The account of what was dropped comes before what came after it.
func (r *Ring) next() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dropped > 0 && r.bytes <= r.size/2 {
		p := r.lost(r.dropped)
		r.dropped = 0
		r.bytes += len(p)
		return p
	}
	if len(r.queue) == 0 {
		r.writing = false
		return nil
	}
	p := r.queue[0]
	r.queue = r.queue[1:]
	return p
}

func (r *Ring) written(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes -= n
	if r.bytes == 0 && r.empty != nil {
		close(r.empty)
		r.empty = nil
	}
}
