package klog

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func lostLine(n int) []byte { return fmt.Appendf(nil, "lost %d\n", n) }

// A stuck writer does not return until it is let go.
type stuck struct {
	let chan struct{}
	mu  sync.Mutex
	got strings.Builder
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.let
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(p)
}

func (s *stuck) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.String()
}

// H2: however much is written to a console that hangs, no write waits and no
// more than the size is held; once it moves again, what was kept comes in order
// with an account of what was not.
func TestH2RingDropsInsteadOfWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &stuck{let: make(chan struct{})}
		r := NewRing(w, 100, lostLine)
		begun := time.Now()
		for i := range 1000 {
			fmt.Fprintf(r, "line %04d\n", i)
		}
		if r.Flush(time.Second) {
			t.Error("a stuck writer has been flushed")
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("the writes took %v besides the flush", took-time.Second)
		}
		if got := r.Dropped(); got != 990 {
			t.Errorf("%d dropped, want 990", got)
		}
		close(w.let)
		if !r.Flush(time.Second) {
			t.Error("the ring is not empty though its writer goes on")
		}
		fmt.Fprint(r, "after\n")
		r.Flush(time.Second)
		var want strings.Builder
		for i := range 10 {
			if i == 5 { // there is room for half of the size again
				want.WriteString("lost 990\n")
			}
			fmt.Fprintf(&want, "line %04d\n", i)
		}
		want.WriteString("after\n")
		if got := w.text(); got != want.String() {
			t.Errorf("got:\n%swant:\n%s", got, want.String())
		}
	})
}

func TestRingKeepsOrder(t *testing.T) {
	t.Parallel()
	w := &stuck{let: make(chan struct{})}
	close(w.let)
	r := NewRing(w, 1<<20, lostLine)
	var want strings.Builder
	for i := range 1000 {
		fmt.Fprintf(r, "%d\n", i)
		fmt.Fprintf(&want, "%d\n", i)
	}
	if !r.Flush(time.Minute) {
		t.Fatal("not flushed")
	}
	if got := w.text(); got != want.String() {
		t.Errorf("%d bytes, want %d", len(got), want.Len())
	}
}
