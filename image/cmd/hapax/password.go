package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// askPassword asks for a password twice on a terminal, which shows nothing of it.
func askPassword(ctx context.Context, tty *os.File, prompt io.Writer) (string, error) {
	before, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		return "", fmt.Errorf("ask for the password: %w", err)
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETSF, &quiet); err != nil {
		return "", fmt.Errorf("ask for the password: %w", err)
	}
	defer func() { _ = unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETSF, before) }()
	lines := bufio.NewReader(tty)
	first, err := askLine(ctx, lines, prompt, "Password of the rescue shell: ")
	if err != nil {
		return "", err
	}
	if first == "" {
		return "", errors.New("an empty password is none")
	}
	second, err := askLine(ctx, lines, prompt, "The same again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ")
	}
	return first, nil
}

// askLine asks for one line, or until ctx ends, which Ctrl-C does.
func askLine(ctx context.Context, lines *bufio.Reader, w io.Writer, prompt string) (string, error) {
	fmt.Fprint(w, prompt)
	defer fmt.Fprintln(w)
	type answer struct {
		line string
		err  error
	}
	came := make(chan answer, 1) // nobody may be there to take it
	go func() {
		line, err := lines.ReadString('\n')
		came <- answer{line, err}
	}()
	select {
	case a := <-came:
		if a.err != nil {
			return "", fmt.Errorf("no password: %w", a.err)
		}
		return strings.TrimRight(a.line, "\r\n"), nil
	case <-ctx.Done():
		return "", fmt.Errorf("no password: %w", context.Cause(ctx))
	}
}
