package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/init/internal/control"
	"hapax/init/internal/handoff"
	"hapax/modload"
	"hapax/tests/need"
)

// TestEntry compares what entry_*.s does with what the Go program does in its
// place: on either way the engine has to be asked the same, and the exit code has
// to be the same. The program is the one that make builds, and its root is a
// folder in which the engine's socket is.
func TestEntry(t *testing.T) {
	t.Parallel()
	for arch, emulator := range map[string]string{"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"} {
		t.Run(arch, func(t *testing.T) {
			need.Root(t)
			t.Parallel()
			testEntry(t, newImage(t, arch, emulator))
		})
	}
}

func testEntry(t *testing.T, i *image) {
	t.Run("answers", func(t *testing.T) { testAnswers(t, i) })
	t.Run("arguments", func(t *testing.T) { testArguments(t, i) })
	t.Run("broken", func(t *testing.T) { testBroken(t, i) })
	t.Run("no engine", func(t *testing.T) {
		for _, variable := range []string{"", goOnly} {
			if code := i.wait(t, i.start(t, helper("x"), variable)); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
		}
	})
}

// helper is the command line of the helper that the kernel starts.
func helper(name string) []string { return []string{handoff.HelperPath, "-q", "--", name} }

// goOnly has no meaning of its own. The entry leaves all variables of this kind
// to the Go program.
const goOnly = "MODPROBE_TEST=1"

// Whatever the engine answers.
func testAnswers(t *testing.T, i *image) {
	e := newFakeEngine(t, i)
	live := modload.Outcome{Module: "x", State: modload.Live, New: true}
	with := func(err error) modload.Outcome { return modload.Outcome{Module: "x", State: modload.Failed, Err: err} }
	failed := with(&modload.LoadError{Module: "x", Op: "finit_module", Err: unix.ENODEV})
	left := with(modload.ErrBlacklisted)
	long := strings.Repeat("long", 2500)
	for _, test := range []struct {
		name, query string // the query is x if there is none
		outcomes    []modload.Outcome
		err         error
		code        int
	}{
		{name: "live", outcomes: []modload.Outcome{live}},
		{name: "built in", outcomes: []modload.Outcome{{Module: "x", State: modload.Builtin}}},
		{name: "nothing to do"},
		{name: "refused", outcomes: []modload.Outcome{failed}, code: 1},
		{name: "no errno", outcomes: []modload.Outcome{with(modload.ErrCycle)}, code: 1},
		{name: "the last one decides", outcomes: []modload.Outcome{failed, live, failed, live}},
		{name: "the last one fails", outcomes: []modload.Outcome{live, failed}, code: 1},
		{name: "blacklisted", outcomes: []modload.Outcome{failed, left}},
		{name: "blacklisted first", outcomes: []modload.Outcome{left, failed}, code: 1},
		{name: "blacklisted for the kernel", err: modload.ErrBlacklisted, code: 1},
		{name: "not found", err: modload.ErrNotFound, code: 1},
		{name: "failed behind a live one", outcomes: []modload.Outcome{live}, err: modload.ErrDraining, code: 1},
		{name: "long", query: long, outcomes: []modload.Outcome{{Module: long, State: modload.Live}}},
		{name: "long text", outcomes: []modload.Outcome{{Module: long, State: modload.Failed, Err: errors.New(long)}}, code: 1},
		{name: "long error", err: errors.New(long), code: 1},
	} {
		e.answer = func(modload.Call) ([]modload.Outcome, error) { return test.outcomes, test.err }
		if test.query == "" {
			test.query = "x"
		}
		want := asked{code: test.code, calls: []modload.Call{{Query: test.query}}}
		if !i.emulated() { // the Go program is the same everywhere
			i.check(t, test.name+" (Go)", e.run(t, helper(test.query), goOnly), want)
		}
		want.direct = true
		i.check(t, test.name, e.run(t, helper(test.query), ""), want)
	}
	tooLong := asked{code: 1}
	i.check(t, "too long (Go)", e.run(t, helper(long+long), goOnly), tooLong)
	i.check(t, "too long", e.run(t, helper(long+long), ""), tooLong)
}

// What is not the kernel's command line is for the Go program.
func testArguments(t *testing.T, i *image) {
	e := newFakeEngine(t, i)
	e.answer = func(modload.Call) ([]modload.Outcome, error) { return nil, nil }
	const modprobe = "/sbin/modprobe"
	for _, test := range []struct {
		args     []string
		variable string
		direct   bool
		code     int
		call     modload.Call // none if it has no query
	}{
		{args: helper("-b"), direct: true, call: modload.Call{Query: "-b"}},
		{args: []string{"modprobe", "-q", "--", "x"}, direct: true, call: modload.Call{Query: "x"}},
		{args: []string{"a/modprobe/modprobe", "-q", "--", "x"}, direct: true, call: modload.Call{Query: "x"}},
		{args: helper("x"), variable: "MODPROB=-b", direct: true, call: modload.Call{Query: "x"}},
		{args: helper("x"), variable: "MODPROBE_OPTIONS=-b", call: modload.Call{Query: "x", Blacklist: true}},
		{args: helper("x"), variable: "MODPROBE_MODULE=y", call: modload.Call{Query: "x", Asker: "y"}},
		{args: []string{modprobe, "-q", "--", "x", "a=1"}, call: modload.Call{Query: "x", Params: "a=1"}},
		{args: []string{modprobe, "-q", "x"}, call: modload.Call{Query: "x"}},
		{args: []string{modprobe, "-b", "--", "x"}, call: modload.Call{Query: "x", Blacklist: true}},
		{args: []string{modprobe, "-qb", "--", "x"}, call: modload.Call{Query: "x", Blacklist: true}},
		{args: []string{modprobe, "-q", "-b", "x"}, call: modload.Call{Query: "x", Blacklist: true}},
		{args: []string{modprobe, "-q", "--force-vermagic", "x"}, call: modload.Call{Query: "x", Flags: unix.MODULE_INIT_IGNORE_VERMAGIC}},
		{args: []string{modprobe, "-q", "--", ""}, code: 1},
		{args: []string{modprobe}, code: 1},
		{args: []string{"/sbin/premodprobe", "-q", "--", "x"}, code: 2},
		{args: []string{"/sbin/modprobes", "-q", "--", "x"}, code: 2},
	} {
		want := asked{code: test.code, direct: test.direct}
		if test.call.Query != "" {
			want.calls = []modload.Call{test.call}
		}
		i.check(t, fmt.Sprintf("%q %s", test.args, test.variable), e.run(t, test.args, test.variable), want)
	}
}

// An engine that ends before it has answered, is busy, or says what it should
// not is asked again, by the Go program.
func testBroken(t *testing.T, i *image) {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: i.socket()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	const module, failed = "module\x00x\x00live\x001\x00\x000\x00", "module\x00x\x00failed\x000\x00error\x0019\x00no such device"
	const end, busy = "end\x00\x000\x00", "end\x00busy\x000\x00the engine is busy"
	for _, test := range []struct {
		first, second []string // the packets of the first and the second answer
		code          int
	}{
		{nil, []string{module, end}, 0},
		{nil, []string{failed, end}, 1},
		{[]string{failed}, []string{module, end}, 0},
		{[]string{module}, []string{failed, end}, 1},
		{[]string{busy}, []string{module, end}, 0},
		{[]string{"what"}, []string{module, end}, 0},
		{[]string{"modules\x00x\x00live\x001\x00\x000\x00", end}, []string{failed, end}, 1},
		{[]string{"json\x00{\"a\": 1}", end}, []string{failed, end}, 1},
		{[]string{"module\x00x\x00live\x001", end}, []string{failed, end}, 1},
		{[]string{"module\x00", end}, []string{failed, end}, 1},
		{[]string{module, "end\x00"}, []string{failed, end}, 1},
		{[]string{module, "end long"}, []string{failed, end}, 1},
	} {
		pid := i.start(t, helper("x"), "")
		for _, packets := range [][]string{test.first, test.second} {
			conn, err := l.Accept()
			if err != nil {
				t.Fatalf("first %q, then %q: %v", test.first, test.second, err)
			}
			request := make([]byte, 100)
			n, err := conn.Read(request)
			if want := "hapax/1\x00load\x00query=x"; err != nil || string(request[:n]) != want {
				t.Errorf("%q: request %q, %v; want %q", test.first, request[:n], err, want)
			}
			for _, packet := range packets {
				if _, err := conn.Write([]byte(packet)); err != nil && !errors.Is(err, unix.EPIPE) {
					t.Errorf("%q: %v", packet, err)
				}
			}
			conn.Close()
		}
		if code := i.wait(t, pid); code != test.code {
			t.Errorf("first %q, then %q: exit code %d, want %d", test.first, test.second, code, test.code)
		}
	}
}

// An image is the root folder of processes.
type image struct {
	root    string
	command []string // in front of the arguments, for another architecture than this one
	threads int      // of a process that has no Go runtime
}

// newImage makes an image with the program that the Makefile's rule builds.
func newImage(t *testing.T, arch, emulator string) *image {
	t.Helper()
	dir, err := os.MkdirTemp("", "entry") // t.TempDir may be too long for the address of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	i := &image{root: dir, threads: 1}
	rule := exec.Command("make", "--no-print-directory", "-n", "bin/init")
	rule.Dir = ".."
	rule.Env = append(os.Environ(), "MAKEFLAGS=", "GOARCH="+arch)
	command, err := rule.Output()
	if err != nil {
		t.Fatalf("make -n bin/init: %v", err)
	}
	line := strings.Replace(string(command), " bin/init ", " "+filepath.Join(dir, "init")+" ", 1)
	if arch != runtime.GOARCH {
		line = strings.Replace(line, " -trimpath", "", 1) // for what make cross has compiled
		i.emulate(t, emulator)
	}
	build := exec.Command("sh", "-c", line)
	build.Dir, build.Env = rule.Dir, rule.Env
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	// The Go runtime opens /dev/null in the place of standard files.
	for _, err := range []error{
		os.MkdirAll(filepath.Dir(i.socket()), 0o755),
		os.Mkdir(filepath.Join(dir, "dev"), 0o755),
		os.WriteFile(filepath.Join(dir, "dev/null"), nil, 0o666),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return i
}

// emulate puts the emulator into the image.
func (i *image) emulate(t *testing.T, emulator string) {
	t.Helper()
	path, err := exec.LookPath(emulator)
	if err != nil {
		t.Fatalf("%v: install qemu-user-static", err)
	}
	program, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(filepath.Join(i.root, "qemu"), program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	i.command = []string{"/qemu", "-0"}
	i.threads = 2 // one is the emulator's own
}

func (i *image) emulated() bool { return len(i.command) > 0 }

func (i *image) socket() string { return filepath.Join(i.root, control.Path) }

// start starts the program as the kernel does: without standard files, and with
// three variables. There may be one more.
func (i *image) start(t *testing.T, args []string, variable string) (pid int) {
	t.Helper()
	program := "/init"
	if i.emulated() { // /qemu -0 ARGV0 /init ARGV1...
		program = i.command[0]
		args = append(append(append([]string(nil), i.command...), args[0], "/init"), args[1:]...)
	}
	env := []string{"HOME=/", "TERM=linux", "PATH=/sbin:/usr/sbin:/bin:/usr/bin"}
	if variable != "" {
		env = append(env, variable)
	}
	pid, err := syscall.ForkExec(program, args, &syscall.ProcAttr{Env: env, Sys: &syscall.SysProcAttr{Chroot: i.root}})
	if err != nil {
		t.Fatalf("start %q: %v", args, err)
	}
	return pid
}

// wait returns the exit code.
func (i *image) wait(t *testing.T, pid int) int {
	t.Helper()
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(pid, &status, 0, nil)
		switch {
		case err == nil && status.Exited():
			return status.ExitStatus()
		case !errors.Is(err, unix.EINTR):
			t.Fatalf("status %#x, %v", status, err)
		}
	}
}

// asked is what a process has asked of the engine, and what came of it.
type asked struct {
	code   int
	calls  []modload.Call
	direct bool // without the Go runtime
}

func (i *image) check(t *testing.T, what string, got, want asked) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(asked{})); diff != "" {
		t.Errorf("%.100s (-want +got):\n%s", what, diff)
	}
}

// A fakeEngine answers the processes of an image. Of the methods of a Backend it
// has the one that is called.
type fakeEngine struct {
	control.Backend
	image  *image
	answer func(modload.Call) ([]modload.Outcome, error)

	pids chan int // of the process that is about to ask
	got  chan asked
}

func newFakeEngine(t *testing.T, i *image) *fakeEngine {
	t.Helper()
	e := &fakeEngine{image: i, pids: make(chan int, 1), got: make(chan asked, 1)}
	l, err := control.Listen(i.socket())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.NewServer(e, func(string, ...any) {}).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return e
}

// Do looks at the process that waits for the answer. The Go runtime starts a
// thread before the program, and the entry none.
func (e *fakeEngine) Do(_ context.Context, c modload.Call) ([]modload.Outcome, error) {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", <-e.pids))
	c.Origin = modload.Origin{}
	answer := e.answer
	e.got <- asked{calls: []modload.Call{c}, direct: err == nil && len(threads) == e.image.threads}
	return answer(c)
}

// run starts a process and waits for its end.
func (e *fakeEngine) run(t *testing.T, args []string, variable string) (a asked) {
	t.Helper()
	pid := e.image.start(t, args, variable)
	e.pids <- pid
	code := e.image.wait(t, pid)
	select {
	case <-e.pids: // it has not asked
	case a = <-e.got:
	}
	a.code = code
	return a
}
