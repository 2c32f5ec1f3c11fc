// Package klog writes log lines to the kernel's ring buffer, where dmesg(1)
// and the journal of the real root find them.
package klog

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
)

// MaxRecord is how much of a message goes into one record. The kernel cuts
// records at about 1 KiB, prefix included.
const MaxRecord = 900

// A Logger writes lines of one level of talkativeness. Its methods may be
// called concurrently; a nil Logger drops everything.
type Logger struct {
	w     io.Writer
	level cmdline.LogLevel
}

// New returns a Logger that writes kmsg records ("<6>hapax: text\n", one per
// Write) to w.
func New(w io.Writer, level cmdline.LogLevel) *Logger { return &Logger{w, level} }

// Open returns a Logger on Device.
func Open(level cmdline.LogLevel) *Logger { return New(Device(), level) }

// Device returns /dev/kmsg, or standard error if that cannot be opened.
func Device() io.Writer {
	fd, err := unix.Open("/dev/kmsg", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		fd = 2
	}
	return device(fd)
}

// A device is a file descriptor written without the runtime's poller.
type device int

func (d device) Write(b []byte) (int, error) { return unix.Write(int(d), b) }

// Debugf logs what only somebody who looks for a fault wants to read.
func (l *Logger) Debugf(format string, args ...any) { l.log(cmdline.Debug, 7, format, args) }

// Infof logs a milestone of the boot.
func (l *Logger) Infof(format string, args ...any) { l.log(cmdline.Info, 6, format, args) }

// Warnf logs what is wrong but does not stop the boot.
func (l *Logger) Warnf(format string, args ...any) { l.log(cmdline.Warn, 4, format, args) }

// Errorf logs what stops the boot.
func (l *Logger) Errorf(format string, args ...any) { l.log(cmdline.Warn, 3, format, args) }

func (l *Logger) log(level cmdline.LogLevel, priority int, format string, args []any) {
	if l == nil || level > l.level {
		return
	}
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		l.records(priority, "hapax", strings.TrimSuffix(line, "\n"))
	}
}

// Output logs a line that a program has written, whatever the level, as a record of the facility daemon with the program's name.
func (l *Logger) Output(name, line string) {
	const daemon, info = 3 << 3, 6
	if l != nil {
		l.records(daemon|info, name, line)
	}
}

// records writes one line, in as many records as it takes.
func (l *Logger) records(priority int, name, line string) {
	line = Printable(line)
	for {
		head := line
		if len(head) > MaxRecord {
			head = head[:MaxRecord]
		}
		// An error leaves nobody to tell.
		_, _ = fmt.Fprintf(l.w, "<%d>%s: %s\n", priority, name, head)
		if line = line[len(head):]; line == "" {
			break
		}
	}
}

// Printable returns s with control characters, escape sequences included, and
// bytes that are not UTF-8 replaced by '?': names of devices and modules come
// from outside and end up on a terminal.
func Printable(s string) string {
	clean := true
	for i := 0; i < len(s) && clean; i++ {
		clean = s[i] >= ' ' && s[i] < 0x7f
	}
	if clean {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}
