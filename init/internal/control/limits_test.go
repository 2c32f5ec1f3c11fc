package control

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/modload"
	"hapax/tests/need"
)

func TestBadRequests(t *testing.T) {
	e := start(t, socketPath(t), &backend{}, nil)
	for name, packet := range map[string]string{
		"version":   "hapax/2\x00status",
		"no verb":   "hapax/1",
		"verb":      "hapax/1\x00explode",
		"key":       "hapax/1\x00load\x00query=x\x00what=1",
		"other key": "hapax/1\x00status\x00name=x",
		"no query":  "hapax/1\x00load\x00params=x",
		"number":    "hapax/1\x00load\x00query=x\x00flags=many",
		"bool":      "hapax/1\x00load\x00query=x\x00blacklist=yes",
		"noise":     "GET / HTTP/1.1\r\n\r\n",
		"oversized": "hapax/1\x00load\x00query=" + strings.Repeat("x", MaxRequest),
	} {
		fd := dial(t, e.path)
		say(t, fd, []byte(packet))
		a, err := hear(fd)
		if err != nil || a.kind != kindEnd {
			t.Fatalf("%s: %v, %v", name, a, err)
		}
		want := wordRequest
		if name == "version" || name == "noise" {
			want = wordVersion
		}
		if got := errorOf(t, a.err); got.Word != want {
			t.Errorf("%s: %v (%s), want %s", name, got, got.Word, want)
		}
		unix.Close(fd)
	}
	if got := e.Stats().Bad; got != 10 {
		t.Errorf("counted %d bad requests, want 10", got)
	}
	long := modload.Call{Query: strings.Repeat("x", MaxRequest)}
	if _, err := (&Client{Path: e.path}).Load(long); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("the client itself: %v", err)
	}
}

// The mode keeps others out, and so does the engine where the mode does not.
func TestNotRoot(t *testing.T) {
	need.Root(t)
	e := start(t, socketPath(t), &backend{}, nil)
	st, err := os.Stat(e.path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v; want 0600", st.Mode(), err)
	}
	c := Client{Path: e.path}
	if err := asNobody(t, func() error { _, err := c.Status(); return err }); !errors.Is(err, unix.EACCES) {
		t.Errorf("connect: %v, want EACCES", err)
	}
	if err := os.Chmod(e.path, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := asNobody(t, func() error { _, err := c.Status(); return err }); !errors.Is(err, ErrBroken) {
		t.Errorf("request: %v, want no answer", err)
	}
	if _, err := c.Status(); err != nil {
		t.Errorf("root: %v", err)
	}
	if got := e.Stats().Denied; got != 1 {
		t.Errorf("counted %d, want 1", got)
	}
}

// asNobody calls f on a thread with another user, which ends with it.
func asNobody(t *testing.T, f func() error) error {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocks, so the thread ends
		const nobody = 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			done <- errno
			return
		}
		done <- f()
	}()
	return <-done
}

// A client that sends nothing is sent away in time.
func TestSlowRequest(t *testing.T) {
	e := start(t, socketPath(t), &backend{}, func(s *Server) { s.slow = 10 * time.Millisecond })
	fd := dial(t, e.path)
	defer unix.Close(fd)
	if a, err := hear(fd); err != nil || !errors.Is(a.err, ErrBusy) {
		t.Errorf("told %v, %v; want busy", a, err)
	}
}

// All places that may wait are taken: others are told so, but the kernel and
// requests that do not wait are served.
func TestBusy(t *testing.T) {
	release := make(chan struct{})
	// The first clients are those of a shell, the others of the kernel.
	proc := fakeProc(t, "sh", 0)
	e := start(t, socketPath(t), &backend{do: hold(release)}, func(s *Server) { s.proc = proc })
	var loads sync.WaitGroup
	load := func(check func(outcomes []modload.Outcome, err error)) {
		loads.Go(func() { check((&Client{Path: e.path}).Load(modload.Call{Query: "x"})) })
	}
	answered := func(outcomes []modload.Outcome, err error) {
		if err != nil || len(outcomes) != 1 {
			t.Errorf("Load = %v, %v", outcomes, err)
		}
	}
	for range maxWaiting {
		load(answered)
	}
	e.waiting(t, maxWaiting)
	c := Client{Path: e.path}
	if _, err := c.Load(modload.Call{Query: "x"}); !errors.Is(err, ErrBusy) {
		t.Errorf("one more: %v, want busy", err)
	}
	if _, err := c.Status(); err != nil {
		t.Errorf("status: %v", err)
	}
	if err := os.Rename(fakeProc(t, "kworker/u8:1", kthread)+"/77/stat", proc+"/77/stat"); err != nil {
		t.Fatal(err)
	}
	const helpers = 50
	for range helpers {
		load(answered)
	}
	e.waiting(t, maxWaiting+helpers)
	close(release)
	loads.Wait()
	if got := e.Stats(); got.Upcalls != helpers || got.Busy != 1 {
		t.Errorf("stats = %+v", got)
	}
}

// The kernel's call carries what it asked for; a blacklisted module is no success to it.
func TestUpcall(t *testing.T) {
	origins := make(chan modload.Origin, 1)
	blacklisted := func(c modload.Call) []modload.Outcome {
		origins <- c.Origin
		return []modload.Outcome{{Module: "x", State: modload.Removed, Err: modload.ErrBlacklisted}}
	}
	for _, test := range []struct {
		flags int
		want  modload.Origin
		fails bool
	}{
		{kthread | 0x4208060, modload.Origin{Kind: modload.Upcall, By: "net-pf-40"}, true},
		{0x400100, modload.Origin{Kind: modload.Named, By: "mount"}, false},
	} {
		t.Run(test.want.Kind.String(), func(t *testing.T) {
			e := start(t, socketPath(t), &backend{do: answerWith(blacklisted)}, func(s *Server) { s.proc = fakeProc(t, "mount", test.flags) })
			_, err := (&Client{Path: e.path}).Load(modload.Call{Query: "net-pf-40"})
			if errors.Is(err, modload.ErrBlacklisted) != test.fails {
				t.Errorf("error = %v", err)
			}
			if got := <-origins; got != test.want {
				t.Errorf("origin = %+v, want %+v", got, test.want)
			}
		})
	}
}

// However many clients there are that ask nothing, one that asks is answered.
func TestTenThousandConnections(t *testing.T) {
	const crowd = 10_000
	raiseLimit(t, crowd+1000)
	e := start(t, socketPath(t), &backend{}, nil)
	var slowest time.Duration
	stop, asked := make(chan struct{}), make(chan int)
	go func() {
		c := Client{Path: e.path, Patience: time.Second, Timeout: 20 * time.Second}
		for n := 0; ; n++ {
			select {
			case <-stop:
				asked <- n
				return
			default:
			}
			begun := time.Now()
			if _, err := c.Status(); err != nil {
				t.Errorf("request %d: %v", n, err)
			}
			slowest = max(slowest, time.Since(begun))
		}
	}()
	fds := make([]int, crowd)
	for i := range fds {
		fds[i] = dial(t, e.path)
	}
	eventually(t, func() error {
		if got := e.Stats().Clients; got < crowd {
			return fmt.Errorf("%d of %d accepted", got, crowd)
		}
		return nil
	})
	close(stop)
	t.Logf("%d requests beside %d connections, the slowest took %v", <-asked, crowd, slowest)
	for _, fd := range fds {
		unix.Close(fd)
	}
}

func raiseLimit(t *testing.T, files uint64) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if old.Cur >= files {
		return
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: max(old.Max, files)}); err != nil {
		t.Fatalf("allow %d open files: %v", files, err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old) })
}
