package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hapax/tests/pty"
)

// TestAskPassword types into a terminal, which shows nothing of it and is as before afterwards.
func TestAskPassword(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ typed, want, failure string }{
		{"swordfish\nswordfish\n", "swordfish", ""},
		{"with blanks \nwith blanks \n", "with blanks ", ""},
		{"one\ntwo\n", "", "differ"},
		{"\n", "", "empty"},
		{"\x04", "", "no password"}, // ^D
	} {
		master, terminal := pty.Open(t)
		before, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		prompts := &typist{t: t, keys: master, lines: strings.SplitAfter(tt.typed, "\n")}
		got, err := askPassword(t.Context(), terminal, prompts)
		if got != tt.want || (err == nil) != (tt.failure == "") || err != nil && !strings.Contains(err.Error(), tt.failure) {
			t.Errorf("%q typed: %q, %v; want %q, %q", tt.typed, got, err, tt.want, tt.failure)
		}
		if after, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS); err != nil || *after != *before {
			t.Errorf("%q typed: the terminal is left in another mode", tt.typed)
		}
	}
	_, terminal := pty.Open(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupted"))
	if _, err := askPassword(ctx, terminal, io.Discard); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("after an interrupt: %v", err)
	}
}

// A typist types the next line when a prompt is written: what is typed before the first one is thrown away.
type typist struct {
	t     *testing.T
	keys  io.Writer
	lines []string
}

func (p *typist) Write(prompt []byte) (int, error) {
	if bytes.HasSuffix(prompt, []byte(": ")) && len(p.lines) > 0 {
		if _, err := io.WriteString(p.keys, p.lines[0]); err != nil {
			p.t.Error(err)
		}
		p.lines = p.lines[1:]
	}
	return len(prompt), nil
}
