package login

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/sys/unix"

	"hapax/tests/pty"
)

// phc returns the hash of a password at the least cost.
func phc(password string) string {
	salt := []byte("saltsalt")
	sum := argon2.IDKey([]byte(password), salt, 1, 8, 1, 16)
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=19$m=8,t=1,p=1$%s$%s", b64(salt), b64(sum))
}

// A string of argon2(1): echo -n password | argon2 somesalt -id -t 2 -m 16 -p 4 -l 24 -e, with the known answer of its tests.
func TestKnownAnswer(t *testing.T) {
	t.Parallel()
	h, err := parseHash("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	if err != nil {
		t.Fatal(err)
	}
	if !h.fits([]byte("password")) || h.fits([]byte("passwore")) || h.fits(nil) {
		t.Error("the hash of the reference implementation is not taken for its password")
	}
}

func TestParseHashRefuses(t *testing.T) {
	t.Parallel()
	good := phc("x")
	for _, bad := range []string{
		"", "none", "shell", "x", good + "$", good[1:], strings.Replace(good, "argon2id", "argon2i", 1), strings.Replace(good, "v=19", "v=16", 1),
		strings.Replace(good, "m=8", "m=0", 1), strings.Replace(good, "m=8", "m=4294967295", 1), strings.Replace(good, "t=1", "t=65", 1),
		strings.Replace(good, "p=1", "p=17", 1), strings.Replace(good, "p=1", "p=", 1), strings.Replace(good, "m=8,", "", 1),
		strings.Replace(good, "c2FsdHNhbHQ", "c2Fsd", 1), strings.Replace(good, "c2FsdHNhbHQ", "", 1), good[:len(good)-10], good + "=",
		good + strings.Repeat("A", 400), "$argon2id$v=19$m=8,t=1,p=1$$",
	} {
		if h, err := parseHash(bad); err == nil {
			t.Errorf("parseHash(%q) = %+v", bad, h)
		}
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add(phc("x"))
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHash(text)
		if err != nil {
			return
		}
		if h.memory == 0 || h.memory > maxMemory || h.passes == 0 || h.passes > maxPasses || h.lanes == 0 || h.lanes > maxLanes ||
			len(h.salt) > maxBytes || len(h.sum) > maxBytes || len(h.sum) < minSum {
			t.Fatalf("%q: %+v", text, h)
		}
	})
}

// A terminal is a pseudo-terminal: what a person types goes into keys, and what is shown is collected.
type terminal struct {
	keys *os.File
	mu   sync.Mutex // protects shown
	seen bytes.Buffer
}

func (m *terminal) shown() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen.String()
}

// newSession returns a session on a terminal, with the hash of "right". Its waits are noted instead of waited for; the shell is
// a close of the channel.
func newSession(t *testing.T) (s session, m *terminal, waits *[]time.Duration, reached chan struct{}) {
	t.Helper()
	master, slave := pty.Open(t)
	m = &terminal{keys: master}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.seen.Write(b[:n])
			m.mu.Unlock()
		}
	}()
	dir := t.TempDir()
	s = session{tty: slave, file: filepath.Join(dir, "rescue"), tries: filepath.Join(dir, "run/tries")}
	if err := os.WriteFile(s.file, []byte(phc("right")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	waits, reached = new([]time.Duration), make(chan struct{})
	s.pause = func(d time.Duration) { *waits = append(*waits, d) }
	s.run = func() error { close(reached); return nil }
	return s, m, waits, reached
}

// answer types keys after the prompt of that number; before, those after the prompt of those before has come: earlier they would be thrown away.
func (m *terminal) answer(t *testing.T, prompts int, text string) {
	t.Helper()
	for range 3000 {
		if strings.Count(m.shown(), "Password") >= prompts {
			// The prompt is written before the read begins, but the flush is before the prompt.
			if _, err := io.WriteString(m.keys, text); err != nil {
				t.Fatal(err)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no prompt number %d in %q", prompts, m.shown())
}

func TestPassword(t *testing.T) {
	t.Parallel()
	s, m, waits, reached := newSession(t)
	done := make(chan error)
	go func() { done <- s.ask() }()
	answers := []string{"wrong\r", "\r", "\x04", "\x03\r", strings.Repeat("r", 2000) + "\r", "Right\r", "right \r", "right\r"}
	for i, text := range answers {
		m.answer(t, i+1, text)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	<-reached
	want := []time.Duration{1, 2, 4, 8, 16, 30, 30}
	for i := range want {
		want[i] *= time.Second
	}
	if !slices.Equal(*waits, want) {
		t.Errorf("waits %v, want %v", *waits, want)
	}
	if shown := m.shown(); strings.Contains(strings.ToLower(shown), "right") {
		t.Errorf("the terminal shows what was typed: %q", shown)
	}
	if _, err := os.Stat(s.tries); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the wrong tries are still counted after the right password: %v", err)
	}
	mode, err := unix.IoctlGetTermios(int(s.tty.Fd()), unix.TCGETS)
	if err != nil || mode.Lflag&unix.ECHO == 0 || mode.Lflag&unix.ISIG == 0 {
		t.Errorf("the shell's terminal does not echo, or sends no signals: %v", err)
	}
}

// Without a place for the number it is counted all the same.
func TestNoPlaceForTries(t *testing.T) {
	t.Parallel()
	s, m, waits, _ := newSession(t)
	s.tries = "/proc/nowhere/tries"
	done := make(chan error)
	go func() { done <- s.ask() }()
	for i, text := range []string{"wrong\r", "wrong\r", "right\r"} {
		m.answer(t, i+1, text)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if want := []time.Duration{time.Second, 2 * time.Second}; !slices.Equal(*waits, want) {
		t.Errorf("waits %v, want %v", *waits, want)
	}
}

// Who hangs up and comes back waits as long as before.
func TestTriesAreKept(t *testing.T) {
	t.Parallel()
	s, m, waits, reached := newSession(t)
	s.remember(1) // which makes the folder
	for text, want := range map[string]time.Duration{"3": 4 * time.Second, "9": longest, "nonsense": longest, "-1": longest} {
		if err := os.WriteFile(s.tries, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		*waits = nil
		s.run = func() error { return errors.New("came to the shell") }
		done := make(chan error)
		before := strings.Count(m.shown(), "Password")
		go func() { done <- s.ask() }()
		m.answer(t, before+1, "right\r")
		if err := <-done; err == nil || len(*waits) != 1 || (*waits)[0] != want {
			t.Errorf("after %q: waits %v, want %v; %v", text, *waits, want, err)
		}
	}
	select {
	case <-reached:
		t.Error("a shell that was not asked for")
	default:
	}
}

// Every error ends without a shell.
func TestFailsClosed(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(s *session){
		"no file":        func(s *session) { s.file += ".absent" },
		"a damaged file": func(s *session) { _ = os.WriteFile(s.file, []byte("$argon2id$v=19$m=8"), 0o600) },
		"an empty file":  func(s *session) { _ = os.WriteFile(s.file, nil, 0o600) },
		"policy shell":   func(s *session) { _ = os.WriteFile(s.file, []byte("shell\n"), 0o600) },
		"no terminal":    func(s *session) { s.tty, _ = os.Open("/dev/null") },
		"hung up":        func(s *session) { s.tty.Close() },
	} {
		s, _, _, reached := newSession(t)
		breakIt(&s)
		if err := s.ask(); err == nil {
			t.Errorf("%s: no error", name)
		}
		select {
		case <-reached:
			t.Errorf("%s: a shell", name)
		default:
		}
	}
}

// CVE-2016-4484: who holds a key down, or has a cat walk over the keyboard, gets no shell, however long.
func TestHeldKeys(t *testing.T) {
	t.Parallel()
	random := make([]byte, 10_000)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(random)
	for name, keys := range map[string][]byte{
		"Enter": bytes.Repeat([]byte{'\r'}, 10_000), "Ctrl-C": bytes.Repeat([]byte{3}, 10_000), "Ctrl-D": bytes.Repeat([]byte{4}, 10_000),
		"Ctrl-Z and Ctrl-\\": bytes.Repeat([]byte{26, 28, '\n'}, 3_000), "random": random, "^S": bytes.Repeat([]byte{19}, 10_000), "many lines": bytes.Repeat([]byte("x\r"), 5_000),
	} {
		s, m, _, reached := newSession(t)
		done := make(chan error)
		go func() { done <- s.ask() }()
		for chunk := range slices.Chunk(keys, 100) {
			if _, err := m.keys.Write(chunk); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-reached:
			t.Errorf("%s: a shell", name)
		case err := <-done:
			t.Errorf("%s: ended: %v", name, err)
		default:
		}
		// It is alive and still lets in who knows the password.
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
					_, _ = m.keys.Write([]byte("\x15right\r")) // ^U: what is on the line does not count
				}
			}
		}()
		select {
		case <-reached:
		case err := <-done:
			if err != nil {
				t.Errorf("%s: ended: %v", name, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s: the right password is not taken any more", name)
		}
		close(stop)
	}
}
