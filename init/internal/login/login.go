// Package login asks for the password of the image's shell, and runs that for nobody who does not know it.
//
// It is a role of the second binary of an image (init/extra): the guard starts it in the place of the shell where the image was
// built with hapax build --rescue password. Whatever goes wrong, no shell is run: the process ends, and the guard, which knows no
// other way to a shell, starts it again.
package login

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Name is the argv[0] of this role.
const Name = "hapax-login"

// File holds the hash of the password; init/internal/guard reads of it whether there is to be a password at all.
const File = "/etc/hapax/rescue"

// triesFile keeps the number of wrong passwords in a row, so that somebody who has the line hang up does not begin anew.
const triesFile = "/run/hapax/rescue-tries"

const shell = "/bin/sh"

// maxPassword is what a line may have; argon2 takes more, a terminal in its canonical mode hardly.
const maxPassword = 1024

// A session is one run of the program. The fields are what a test replaces.
type session struct {
	tty   *os.File
	file  string
	tries string
	pause func(time.Duration)
	run   func() error // starts the shell in the place of this process, and returns only if that fails
}

// Run asks until the password is right. It returns an exit status if there is no way to ask.
func Run() int {
	s := session{tty: os.Stdin, file: File, tries: triesFile, pause: time.Sleep, run: func() error {
		return unix.Exec(shell, []string{shell}, os.Environ())
	}}
	if err := s.ask(); err != nil {
		fmt.Fprintf(s.tty, "\r\nhapax: no shell: %v\r\n", err)
		s.pause(longest) // the guard would start it again at once, for the same end
	}
	return 1
}

// ask is Run without its exit. It returns nil only if the shell ran and came back, as it does in a test.
func (s session) ask() error {
	text, err := os.ReadFile(s.file)
	if err != nil {
		return err
	}
	h, err := parseHash(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s: %w", s.file, err)
	}
	before, err := unix.IoctlGetTermios(int(s.tty.Fd()), unix.TCGETS)
	if err != nil {
		return fmt.Errorf("the console is no terminal: %w", err)
	}
	if err := s.quiet(*before); err != nil {
		return err
	}
	n := s.wrong() // of an earlier process
	if n > 0 {
		s.pause(delay(n))
	}
	for {
		// What was typed before there was a prompt is no answer to it.
		if err := unix.IoctlSetInt(int(s.tty.Fd()), unix.TCFLSH, unix.TCIFLUSH); err != nil {
			return err
		}
		right, err := s.once(h)
		if err != nil {
			return err
		}
		if right {
			break
		}
		n++
		s.remember(n)
		fmt.Fprintf(s.tty, "\r\nhapax: wrong; %v until the next try\r\n", delay(n))
		s.pause(delay(n))
	}
	_ = os.Remove(s.tries)
	if err := unix.IoctlSetTermios(int(s.tty.Fd()), unix.TCSETSF, before); err != nil {
		return err
	}
	fmt.Fprint(s.tty, "\r\n")
	return s.run()
}

// quiet has the terminal show nothing of what is typed, send no signals for it, and not stop at ^S: with its output stopped and
// its input full it would never come to the ^Q behind that.
func (s session) quiet(t unix.Termios) error {
	t.Lflag &^= unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHONL | unix.ISIG
	t.Lflag |= unix.ICANON
	t.Iflag &^= unix.IXON | unix.IXOFF | unix.IXANY
	t.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(int(s.tty.Fd()), unix.TCSETSF, &t); err != nil {
		return err
	}
	return unix.IoctlSetInt(int(s.tty.Fd()), unix.TCXONC, unix.TCOON) // somebody may have stopped it before
}

// once asks once. An empty line, the end of the input and a line that is too long are wrong passwords, and are no work.
func (s session) once(h hash) (right bool, err error) {
	if _, err := io.WriteString(s.tty, "\r\nPassword for the shell of this image: "); err != nil {
		return false, err
	}
	line := make([]byte, maxPassword+1)
	defer clear(line)
	n, err := s.tty.Read(line)
	switch {
	case errors.Is(err, io.EOF): // ^D
		return false, nil
	case err != nil: // the line hung up
		return false, err
	case n < 2 || n > maxPassword || line[n-1] != '\n':
		return false, nil
	}
	return h.fits(line[:n-1]), nil
}

// remember keeps the number of wrong passwords for a later process. At rd.break=cmdline nobody has made the folder yet.
func (s session) remember(n int) {
	_ = os.MkdirAll(filepath.Dir(s.tries), 0o755)
	_ = os.WriteFile(s.tries, []byte(strconv.Itoa(n)), 0o600) // without it this process counts all the same
}

// wrong returns the number of wrong passwords in a row. Without the file that is none.
func (s session) wrong() int {
	text, err := os.ReadFile(s.tries)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 0 || n > 1<<20 {
		return 1 << 20
	}
	return n
}

// longest is the wait after the sixth wrong password and every later one.
const longest = 30 * time.Second

// delay is how long the n-th wrong password in a row holds up the next try.
func delay(n int) time.Duration {
	if n > 5 {
		return longest
	}
	return min(time.Second<<max(n-1, 0), longest)
}
