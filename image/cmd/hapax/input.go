package main

import (
	"context"
	"io"
)

// An interruptible is an input on which nobody waits when ctx has ended. A read that is under way then stays behind, for the end of
// the program to end it.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i interruptible) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	b := make([]byte, len(p)) // not p, which is the caller's again when this returns
	done := make(chan result, 1)
	go func() {
		n, err := i.r.Read(b)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		copy(p, b[:r.n])
		return r.n, r.err
	case <-i.ctx.Done():
		return 0, context.Cause(i.ctx)
	}
}
