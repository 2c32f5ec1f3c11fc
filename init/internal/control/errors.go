package control

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"hapax/modload"
)

// The words of errors that are not modload's.
const (
	wordBusy    = "busy"      // too many clients, try again
	wordTimeout = "timed-out" // the wait has ended, what it was for has not
	wordRequest = "request"   // the request is none
	wordVersion = "version"   // of another version of the protocol
	wordError   = "error"     // anything else
)

var (
	// ErrBusy: the engine has too many clients. Try again.
	ErrBusy = errors.New("the engine is busy")

	// ErrNoEngine: nothing listens, so no engine is running.
	ErrNoEngine = errors.New("no engine is running: it listens from its start until the real root takes over")

	// ErrNoGuard: nothing listens at the guard's socket.
	ErrNoGuard = errors.New("PID 1 has no services: this is no image of hapax that stays, or it has none")

	// ErrBroken: the engine was lost before it had answered.
	ErrBroken = errors.New("the engine was lost before it had answered")
)

// An Error is what the engine answered instead of success. errors.Is finds the
// error of modload, or unix.Errno, or ErrBusy, that it was on the engine's side.
type Error struct {
	Word  string     // one of those below, or of the table of words
	Errno unix.Errno // 0 if it was not the system's
	Text  string     // for people
}

func (e *Error) Error() string { return e.Text }

// Unwrap returns the number, if there is one.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// Is compares by the word.
func (e *Error) Is(target error) bool {
	for _, w := range words() {
		if w.word == e.Word && target == w.err {
			return true
		}
	}
	return false
}

type wordOf struct {
	word string
	err  error
}

// words returns the errors that have a word of their own, the more telling one
// first where an error is two of them.
func words() []wordOf {
	return []wordOf{
		{"not-found", modload.ErrNotFound},
		{"loop", modload.ErrLoop},
		{"overdue", modload.ErrOverdue},
		{"blacklisted", modload.ErrBlacklisted},
		{"denied", modload.ErrDenied},
		{"install", modload.ErrInstall},
		{"barred", modload.ErrBarred},
		{"cycle", modload.ErrCycle},
		{"refused", modload.ErrRefused},
		{"not-loaded", modload.ErrNotLoaded},
		{"builtin", modload.ErrBuiltin},
		{"in-use", modload.ErrInUse},
		{"draining", modload.ErrDraining},
		{wordBusy, ErrBusy},
		{wordTimeout, context.DeadlineExceeded},
		{wordTimeout, context.Canceled},
	}
}

// describe returns err in the form that goes over the line, the zero Error for nil.
func describe(err error) Error {
	if err == nil {
		return Error{}
	}
	var e *Error
	if errors.As(err, &e) {
		return *e
	}
	out := Error{Word: wordError, Text: err.Error()}
	for _, w := range words() {
		if errors.Is(err, w.err) {
			out.Word = w.word
			break
		}
	}
	errors.As(err, &out.Errno)
	return out
}

// parseError reads the fields of an Error.
func parseError(fields []string) (result, err error) {
	number, err := strconv.ParseUint(fields[1], 10, 12)
	if err != nil {
		return nil, fmt.Errorf("control: error number %q", fields[1])
	}
	if fields[0] == "" {
		return nil, nil
	}
	return &Error{Word: fields[0], Errno: unix.Errno(number), Text: fields[2]}, nil
}
