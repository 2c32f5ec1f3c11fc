package applet

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// A level is a priority of syslog(3), with which kmod marks its messages.
type level int

const (
	levelNone    level = 0
	levelFatal   level = 2
	levelError   level = 3
	levelWarning level = 4
)

// errFatal ends the program at once: kmod exits behind a FATAL line. The message is out.
var errFatal = errors.New("fatal")

// log writes a message like "modprobe: ERROR: text" unless the level is too
// low. It returns errFatal for one that is fatal and was written, else nil.
func (e *env) log(l level, format string, args ...any) error {
	if l > e.level {
		return nil
	}
	word := "WARNING"
	switch l {
	case levelFatal:
		word = "FATAL"
	case levelError:
		word = "ERROR"
	}
	fmt.Fprintf(e.stderr, "%s: %s: %s\n", e.name, word, fmt.Sprintf(format, args...))
	if l <= levelFatal {
		return errFatal
	}
	return nil
}

// errorf is log for errors.
func (e *env) errorf(format string, args ...any) { _ = e.log(levelError, format, args...) }

// A kmsg writes each line as a record of the facility daemon to the kernel's
// ring buffer, which takes the place of syslog in an image.
type kmsg struct{}

func (kmsg) Write(b []byte) (int, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	const daemonWarning = 3<<3 | 4
	for line := range strings.Lines(string(b)) {
		if _, err := unix.Write(fd, fmt.Appendf(nil, "<%d>%s", daemonWarning, line)); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

var _ io.Writer = kmsg{}

// strerror returns the text of an error as the C library has it, which is what
// scripts know: "No such file or directory". What is no error of the system
// keeps its own text.
func strerror(err error) string {
	var number unix.Errno
	if !errors.As(err, &number) {
		return err.Error()
	}
	text := number.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

// exitCode is kmod's for err.
func exitCode(err error) int {
	if err != nil {
		return 1
	}
	return 0
}
