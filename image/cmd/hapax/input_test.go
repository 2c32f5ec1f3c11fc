package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestInterruptible(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	if b, err := io.ReadAll(interruptible{ctx, strings.NewReader("a\nb\n")}); string(b) != "a\nb\n" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
	in, out := io.Pipe()
	defer out.Close()
	cancel()
	if _, err := io.ReadAll(interruptible{ctx, in}); !errors.Is(err, context.Canceled) {
		t.Errorf("a read on which nobody waits any more = %v", err)
	}
}

func TestOneLine(t *testing.T) {
	t.Parallel()
	err := errors.Join(errors.New("a\tb"), errors.New("\x1b[31mü\xff\u009b"))
	if got, want := oneLine(err), "a b; ?[31mü??"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
