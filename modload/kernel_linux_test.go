package modload

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"hapax/modload/modindex"
)

// openKernel returns a Kernel over dir that is closed after the test and thinks
// that everything is let in.
func openKernel(t *testing.T, dir string) *Kernel {
	t.Helper()
	k, err := OpenKernel(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	k.compression = ""
	k.policy.Store(new(policy))
	return k
}

// A script is what a kernel answers, in order. A call beyond it fails the test.
type script struct {
	finit  []error
	states []string // of the module; the last one stays
}

// play makes the Kernel answer as the script says and load a file of its own.
func (s *script) play(t *testing.T) (*Kernel, modindex.Module) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "m.ko"), moduleLike(1000), 0o644); err != nil {
		t.Fatal(err)
	}
	k := openKernel(t, dir)
	k.finit = func(_ string, fd int, params string, flags int) error {
		if len(s.finit) == 0 {
			t.Error("a call of finit_module too many")
			return unix.EINVAL
		}
		err := s.finit[0]
		s.finit = s.finit[1:]
		return err
	}
	k.initstate = func(string) string {
		if len(s.states) == 0 {
			return ""
		}
		state := s.states[0]
		if len(s.states) > 1 {
			s.states = s.states[1:]
		}
		return state
	}
	k.readPolicy = func() *policy { t.Error("the policy is read again"); return new(policy) }
	return k, modindex.Module{Name: "m", Path: "m.ko"}
}

// Each answer of the kernel, with what it said about the module before and after.
func TestLoad(t *testing.T) {
	t.Parallel()
	busy := func(n int) []error {
		calls := make([]error, n)
		for i := range calls {
			calls[i] = unix.ETXTBSY
		}
		return calls
	}
	tests := []struct {
		name   string
		script script
		want   State
		calls  int
		dups   int
		again  bool
		took   time.Duration // as the waiting adds up
	}{
		{name: "success", script: script{finit: []error{nil}}, want: Live, calls: 1},
		{name: "live already", script: script{states: []string{"live"}}, want: Live},
		{name: "another loader is at it", script: script{states: []string{"coming", "coming", "live"}}, want: Live, took: 3 * time.Millisecond},
		{name: "another loader failed", script: script{states: []string{"coming", ""}, finit: []error{nil}}, want: Live, calls: 1, took: time.Millisecond},
		{name: "another loader was faster", script: script{states: []string{"", "live"}, finit: []error{unix.EEXIST}}, want: Live, calls: 1, dups: 1},
		{name: "init said EEXIST", script: script{finit: []error{unix.EEXIST}}, want: Refused, calls: 1},
		{name: "busy, then live", script: script{states: []string{"", "coming", "live"}, finit: []error{unix.EBUSY}}, want: Live, calls: 1, dups: 1, took: time.Millisecond},
		{name: "busy", script: script{states: []string{"", "going", ""}, finit: []error{unix.EBUSY}}, want: Refused, calls: 1, dups: 1, again: true, took: time.Millisecond},
		{name: "interrupted while another loads", script: script{states: []string{"", "coming", "live"}, finit: []error{unix.EINTR}}, want: Live, calls: 1, took: time.Millisecond},
		{name: "no memory", script: script{finit: []error{unix.ENOMEM}}, want: Failed, calls: 1, again: true},
		{name: "no device", script: script{finit: []error{unix.ENODEV}}, want: Refused, calls: 1},
		{name: "other vermagic", script: script{finit: []error{unix.ENOEXEC}}, want: Failed, calls: 1},
		{name: "written, then not", script: script{finit: append(busy(2), nil)}, want: Live, calls: 3, dups: 2, took: 300 * time.Millisecond},
		{name: "written, loaded by another meanwhile", script: script{states: []string{"", "live"}, finit: busy(1)}, want: Live, calls: 1, dups: 1, took: 100 * time.Millisecond},
		{name: "written for ever", script: script{finit: busy(9)}, want: Failed, calls: 9, dups: 9, took: 5500 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, m := tt.script.play(t)
				begun := time.Now()
				res := k.Load(Job{Module: m})
				if got := outcome(res.Err); got != tt.want || res.Calls != tt.calls || res.Duplicates != tt.dups || res.Again != tt.again {
					t.Errorf("Load = %+v, want %v, %d calls, %d duplicates, again %v", res, tt.want, tt.calls, tt.dups, tt.again)
				}
				if took := time.Since(begun); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				if len(tt.script.finit) != 0 {
					t.Errorf("%d answers of finit_module are left", len(tt.script.finit))
				}
			})
		})
	}
}

// While somebody has the file open for writing there is no call.
func TestLoadAwaitsTheWriter(t *testing.T) {
	t.Parallel()
	for _, closes := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := script{}
			if closes {
				s.finit = []error{nil}
			}
			k, m := s.play(t)
			f, err := k.open(Job{Module: m})
			if err != nil {
				t.Fatal(err)
			}
			defer f.close()
			w, err := os.OpenFile(procFd(f.fd), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if closes {
				time.AfterFunc(time.Second, func() { w.Close() })
			}
			res := k.Load(Job{Module: m})
			switch {
			case closes && (res.Err != nil || res.Calls != 1 || res.Duplicates != 0):
				t.Errorf("after the writer: %+v, want one call and no duplicate", res)
			case !closes && (outcome(res.Err) != Failed || res.Calls != 0 || !errors.Is(res.Err, unix.ETXTBSY)):
				t.Errorf("with the writer: %+v, want a failure by ETXTBSY without a call", res)
			}
		})
	}
}

// A kernel that lets no module in is not asked; one that has ceased to is asked
// once.
func TestLoadOfBarred(t *testing.T) {
	t.Parallel()
	s := script{finit: []error{unix.EPERM}}
	k, m := s.play(t)
	k.readPolicy = func() *policy { return &policy{barred: ErrBarred} }
	if res := k.Load(Job{Module: m}); res.Calls != 1 || !errors.Is(res.Err, unix.EPERM) {
		t.Errorf("the first Load = %+v, want one call and EPERM", res)
	}
	for range 3 {
		if res := k.Load(Job{Module: m}); res.Calls != 0 || !errors.Is(res.Err, ErrBarred) || outcome(res.Err) != Failed {
			t.Errorf("a later Load = %+v, want ErrBarred without a call", res)
		}
	}
}

// The parameters and the flags reach the kernel.
func TestLoadPassesOn(t *testing.T) {
	t.Parallel()
	s := script{}
	k, m := s.play(t)
	packed := pack(t, "zstd", moduleLike(1000))
	for _, unpacks := range []string{"zstd", ""} {
		if err := unix.Unlinkat(k.dir, m.Path, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(procFd(k.dir), m.Path), packed, 0o644); err != nil {
			t.Fatal(err)
		}
		k.compression = unpacks
		want := 0
		if unpacks != "" {
			want = unix.MODULE_INIT_COMPRESSED_FILE
		}
		k.finit = func(_ string, fd int, params string, flags int) error {
			if params != "a=1 b" || flags != want {
				t.Errorf("finit_module gets %q, flags %d; want flags %d", params, flags, want)
			}
			return nil
		}
		if res := k.Load(Job{Module: m, Params: "a=1 b"}); res.Err != nil || res.Calls != 1 {
			t.Errorf("Load = %+v", res)
		}
	}
}

// A file that is no module fails with the kernel's word for it, and the
// thread's signal mask is as it was. Without the right to load modules the
// kernel says EPERM; both are failures, and both cost one call.
func TestLoadOfRubbish(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "rubbish.ko"), []byte(strings.Repeat("no module ", 100)), 0o644); err != nil {
		t.Fatal(err)
	}
	k := openKernel(t, dir)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := mask(t)
	res := k.Load(Job{Module: modindex.Module{Name: "hapax_rubbish", Path: "rubbish.ko"}})
	if res.Calls != 1 || outcome(res.Err) != Failed {
		t.Errorf("Load = %+v, want one call and a failure", res)
	}
	if !errors.Is(res.Err, unix.ENOEXEC) && !errors.Is(res.Err, unix.EPERM) && !errors.Is(res.Err, unix.ENOSYS) {
		t.Errorf("error = %v", res.Err)
	}
	if mask(t) != before {
		t.Error("the signal mask has changed")
	}
}

func procFd(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func mask(t *testing.T) unix.Sigset_t {
	t.Helper()
	var m unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestUndisturbed sleeps in the kernel while the thread is showered with the
// runtime's own signal: a sleep that a signal reaches ends with EINTR, as a
// wait in a module's init function would.
func TestUndisturbed(t *testing.T) {
	t.Parallel()
	for range 20 {
		thread, done := make(chan int), make(chan error)
		go func() {
			done <- undisturbed(func() error {
				thread <- unix.Gettid()
				return unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &unix.Timespec{Nsec: 5e6}, nil)
			})
		}()
		tid := <-thread
		var err error
		for running := true; running; {
			select {
			case err = <-done:
				running = false
			default:
				_ = unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
			}
		}
		if err != nil {
			t.Fatalf("the sleep was disturbed: %v", err)
		}
	}
}
