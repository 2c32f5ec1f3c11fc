package vm

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"
)

// A Line is one line of the serial console, without its line end.
type Line struct {
	At   time.Duration // host time since QEMU was started
	Text string
}

func (l Line) String() string { return fmt.Sprintf("[+%8.3f] %s", l.At.Seconds(), l.Text) }

// maxLine cuts what a guest prints without a line end, so that a mad one does not fill the host's memory.
const maxLine = 1 << 20

// A console collects what the guest prints. QEMU's standard output is copied into it.
type console struct {
	start time.Time

	mu       sync.Mutex // protects what follows
	lines    []Line
	rest     []byte        // begun, not ended
	next     int           // the first line that no wait has looked at
	panicked string        // the line that reports a kernel panic
	ended    bool          // nothing more will come
	news     chan struct{} // closed and replaced by each change
}

func newConsole() *console { return &console{start: time.Now(), news: make(chan struct{})} }

// Write takes the next piece of output. It never fails.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		piece, rest, whole := bytes.Cut(p, []byte{'\n'})
		if room := maxLine - len(c.rest); len(piece) > room {
			piece, rest, whole = p[:room], p[room:], true
		}
		c.rest = append(c.rest, piece...)
		p = rest
		if whole {
			c.cut()
		}
	}
	return n, nil
}

// cut makes a line of what has come since the last one. mu is held.
func (c *console) cut() {
	text := strings.ReplaceAll(string(c.rest), "\r", "")
	c.rest = c.rest[:0]
	c.lines = append(c.lines, Line{time.Since(c.start), text})
	if c.panicked == "" && isPanic(text) {
		c.panicked = text
	}
	c.wake()
}

// isPanic recognises the first line of a panic; the death of PID 1 is one of its reasons.
func isPanic(text string) bool {
	return strings.Contains(text, "Kernel panic - not syncing") || strings.Contains(text, "Attempted to kill init")
}

// end marks the end of all output. An unfinished line becomes a line.
func (c *console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.rest) > 0 {
		c.cut()
	}
	c.ended = true
	c.wake()
}

// wake tells all waits to look again. mu is held.
func (c *console) wake() {
	close(c.news)
	c.news = make(chan struct{})
}

func (c *console) snapshot() []Line {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := append([]Line(nil), c.lines...)
	if len(c.rest) > 0 {
		lines = append(lines, Line{time.Since(c.start), string(c.rest)})
	}
	return lines
}

// An earlyState is how far a kernel has come.
type earlyState int

const (
	booting   earlyState = iota
	diedEarly            // of an exception, before it started init
	started              // it started init, or something else happened that is for the test to judge
)

// early looks at all lines so far. It takes none away from a wait.
func (c *console) early() (state earlyState, news <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.lines {
		if strings.Contains(l.Text, " as init process") {
			return started, nil
		}
	}
	switch {
	case strings.Contains(c.panicked, "Fatal exception"):
		return diedEarly, nil
	case c.panicked != "" || c.ended:
		return started, nil
	}
	return booting, c.news
}

func (c *console) panicLine() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.panicked
}

// A view is what a search found: the line, or the state of a console that has no such line.
type view struct {
	line     string
	found    bool
	panicked string
	ended    bool
	news     <-chan struct{} // closed by the next change
}

// look searches the lines that no wait has looked at.
func (c *console) look(fits func(string) bool) view {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.next < len(c.lines) {
		text := c.lines[c.next].Text
		c.next++
		if fits(text) {
			return view{line: text, found: true}
		}
	}
	return view{panicked: c.panicked, ended: c.ended, news: c.news}
}

// afterPanic is how long a panicked guest may go on, so that the log holds the kernel's call trace.
// With panic=-1 QEMU ends right after it.
const afterPanic = 2 * time.Second

// wait waits for a line that fits; what describes it in errors.
func (v *VM) wait(timeout time.Duration, what string, fits func(string) bool) (string, error) {
	timer := time.NewTimer(v.scale(timeout))
	defer timer.Stop()
	for {
		seen := v.console.look(fits)
		switch {
		case seen.found:
			return seen.line, nil
		case seen.panicked != "" && !v.panics:
			_ = v.WaitExit(afterPanic) // only to let the trace come
			return "", fmt.Errorf("%w while waiting for %s: %s", ErrPanic, what, seen.panicked)
		case seen.ended:
			if v.err != nil {
				return "", fmt.Errorf("%w before %s came: %w", ErrExited, what, v.err)
			}
			return "", fmt.Errorf("%w before %s came", ErrExited, what)
		}
		select {
		case <-seen.news:
		case <-timer.C:
			return "", fmt.Errorf("%w: no %s within %v", ErrTimeout, what, timeout)
		}
	}
}
