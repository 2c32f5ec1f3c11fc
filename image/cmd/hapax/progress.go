package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A progress is a line on a terminal that tells how far a long piece of work is. Work of less than a second, or output
// that is no terminal, never shows one.
type progress struct {
	w     io.Writer // nil if there is no terminal
	next  time.Time // of the next change
	shown bool
}

func newProgress(stderr io.Writer) *progress {
	p := &progress{next: time.Now().Add(time.Second)}
	if f, ok := stderr.(*os.File); ok && isTerminal(f) {
		p.w = f
	}
	return p
}

// update shows that done of total bytes are through, at most ten times a second.
func (p *progress) update(done, total int64) {
	if p.w == nil || total == 0 || time.Now().Before(p.next) {
		return
	}
	p.next, p.shown = time.Now().Add(100*time.Millisecond), true
	fmt.Fprintf(p.w, "\r\x1b[Khapax: %d %% of %s", 100*done/total, formatBytes(total))
}

// clear takes the line off the terminal.
func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
