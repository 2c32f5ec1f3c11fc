package guard

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/klog"
	"hapax/init/internal/service"
	"hapax/tests/need"
)

// stormCode is that with which the engine ends among the zombies.
const stormCode = 7

// storm says how many zombies come at a time, which fits into the default
// pid_max, and how often: 100,000 in make test-full. Under the race detector a
// fork takes a millisecond.
func storm() (waves, size int) {
	if need.Full() {
		return 10, 10_000
	}
	return 1, 5_000
}

// zombieStorm leaves PID 1 with dead children, wave by wave, and ends like them.
func zombieStorm() {
	begun := time.Now()
	var reaping time.Duration
	waves, size := storm()
	for range waves {
		pid := fork()
		if pid == 0 {
			for range size {
				if fork() == 0 {
					exit(0)
				}
			}
			exit(0)
		}
		var status unix.WaitStatus
		for {
			if _, err := unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
				break
			}
		}
		handed := time.Now()
		for zombies() > 0 {
			time.Sleep(time.Millisecond)
		}
		reaping += time.Since(handed)
	}
	fmt.Printf("engine: %d zombies made in %v, reaped within %v\n", waves*size, time.Since(begun).Round(time.Millisecond), reaping.Round(time.Millisecond))
	fmt.Println("engine: zombies", zombies())
	os.Exit(stormCode)
}

// fork is fork(2). The child may do system calls and nothing else.
//
//go:norace
func fork() int {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		panic(errno)
	}
	return int(pid)
}

//go:norace
func exit(code int) {
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, uintptr(code), 0, 0)
	}
}

// E4: the zombies of a whole process table are reaped, and the end of the
// guard's own child among them is what it was.
func TestE4ZombieStorm(t *testing.T) {
	need.Long(t)
	p := start(t, "storm")
	seen := p.expect(t, "engine: zombies 0")
	t.Log(seen[len(seen)-2], "(5 s are the aim for the reaping)")
	p.expect(t, "the engine has ended: exit status "+strconv.Itoa(stormCode))
}

// playPart plays a guard as PID 1 that has no engine.
func playPart(part string, out outside) {
	signals, children := catch()
	_ = signals
	log := &lastLine{}
	g := &guard{
		params: cmdline.Parse(""), kernel: out.kernel, log: klog.New(log, cmdline.Debug),
		console: newConsole(), kmsg: newKmsg(io.Discard), children: map[int]func(unix.WaitStatus){},
	}
	switch part {
	case "codes":
		g.playCodes(children)
	case "starts":
		g.playStarts(children)
	case "masks":
		g.playMasks(children)
	case "group":
		g.playGroup(children)
	}
}

// A lastLine keeps the last line that was logged.
type lastLine struct{ text string }

func (l *lastLine) Write(p []byte) (int, error) {
	l.text = string(p)
	return len(p), nil
}

// child starts this program in the part of an engine that is told what to do.
func (g *guard) child(part string, arg string, ended func(unix.WaitStatus)) int {
	pid, err := g.spawn("/proc/self/exe", []string{EngineName, arg}, &syscall.ProcAttr{
		Env: []string{"TEST_ENGINE=" + part}, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true},
	}, ended)
	if err != nil {
		fmt.Println("guard: spawn:", err)
		os.Exit(1)
	}
	return pid
}

// playCodes reports what each exit code and each deadly signal is described as.
func (g *guard) playCodes(children <-chan os.Signal) {
	wait := func(pid int) {
		for g.children[pid] != nil {
			<-children
			g.reap()
		}
	}
	for code := range 256 {
		wait(g.child("exit", strconv.Itoa(code), func(s unix.WaitStatus) { fmt.Println("code", code, service.Describe(s)) }))
	}
	for _, sig := range deadly() {
		pid := g.child("wait", "", func(s unix.WaitStatus) { fmt.Println("signal", unix.SignalName(sig), service.Describe(s)) })
		_ = unix.Kill(pid, sig)
		wait(pid)
	}
	fmt.Println("guard: done")
}

// deadly are signals that end a child that was stopped before it could do
// anything about them.
func deadly() []unix.Signal { return []unix.Signal{unix.SIGKILL} }

// As tini's cases have it: every exit code of a child, and each death by a
// signal, is told from all others.
func TestE4ExitCodes(t *testing.T) {
	need.Long(t)
	p := start(t, "none", "TEST_GUARD=codes")
	seen := strings.Join(p.expect(t, "guard: done"), "\n") + "\n"
	for code := range 256 {
		if want := fmt.Sprintf("code %d exit status %d\n", code, code); !strings.Contains(seen, want) {
			t.Errorf("no line %q in:\n%s", want, seen)
		}
	}
	for _, sig := range deadly() {
		if want := fmt.Sprintf("signal %[1]s signal %[1]s\n", unix.SignalName(sig)); !strings.Contains(seen, want) {
			t.Errorf("no line %q in:\n%s", want, seen)
		}
	}
}

// playStarts starts children as fast as it can, up to 64 at a time, each with an
// exit code of its own, and counts the codes that come back.
func (g *guard) playStarts(children <-chan os.Signal) {
	const most = 64
	starts := 1_000
	if need.Full() {
		starts = 10_000
	}
	wrong, ended := 0, 0
	for n := range starts {
		code := n % 256
		_, err := g.spawn("/bin/bash", []string{"sh", "-c", "exit " + strconv.Itoa(code)}, &syscall.ProcAttr{}, func(s unix.WaitStatus) {
			if ended++; s.ExitStatus() != code {
				wrong++
			}
		})
		if err != nil {
			fmt.Println("guard: spawn:", err)
			os.Exit(1)
		}
		for len(g.children) >= most {
			<-children
			g.reap()
		}
	}
	for len(g.children) > 0 {
		<-children
		g.reap()
	}
	none := reapAll(func(int, unix.WaitStatus) { wrong++ })
	fmt.Printf("guard: %d started and not ended, %d wrong, none left: %v\n", starts-ended, wrong, none)
}

// F4: whoever starts 10,000 children, or in make test 1,000, and reaps all that ends mixes none of them
// up; run it under -race.
func TestF4Starts(t *testing.T) {
	need.Long(t)
	p := start(t, "none", "TEST_GUARD=starts")
	p.expect(t, "guard: 0 started and not ended, 0 wrong, none left: true")
}

// playStatus prints the signal masks of this process.
func playStatus() {
	b, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		fmt.Println(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "SigIgn") || strings.HasPrefix(line, "SigBlk") {
			fmt.Print("child: ", line)
		}
	}
	os.Exit(0)
}

func (g *guard) playMasks(children <-chan os.Signal) {
	// With a shell, for the Go runtime of the test program would change them.
	_, err := g.spawn("/bin/bash", []string{"sh", "-c", "grep -E 'Sig(Ign|Blk)' /proc/self/status"}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2},
		Env: []string{"PATH=/usr/bin:/bin"}},
		func(unix.WaitStatus) { fmt.Println("guard: done") })
	if err != nil {
		fmt.Println("guard: spawn:", err)
	}
	for len(g.children) > 0 {
		<-children
		g.reap()
	}
}

// As tini's cases have it: what the guard catches or ignores is nothing that its
// children inherit.
func TestE1ChildrenHaveCleanMasks(t *testing.T) {
	p := start(t, "none", "TEST_GUARD=masks")
	seen := strings.Join(p.expect(t, "guard: done"), "\n")
	for _, name := range []string{"SigBlk", "SigIgn"} {
		_, mask, ok := strings.Cut(seen, name+":\t")
		mask, _, _ = strings.Cut(mask, "\n")
		set, err := strconv.ParseUint(mask, 16, 64)
		set &^= 1<<31 | 1<<32 // the C library's own, which a program under the race detector has
		if !ok || err != nil || set != 0 {
			t.Errorf("%s %q:\n%s", name, mask, seen)
		}
	}
}

// playGroup ends a shell that has children of its own, as the guard does before
// the root goes away.
func (g *guard) playGroup(children <-chan os.Signal) {
	out, in, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	g.shell, err = g.spawn("/bin/bash", []string{"sh", "-c", "sleep 1000 & sleep 1000 & echo up; wait"}, &syscall.ProcAttr{
		Files: []uintptr{0, in.Fd(), 2}, Env: []string{"PATH=/usr/bin:/bin"}, Sys: &syscall.SysProcAttr{Setsid: true},
	}, g.shellEnded)
	if err != nil {
		panic(err)
	}
	var buf [3]byte
	_, _ = io.ReadFull(out, buf[:])
	g.killShell()
	for !reapAll(func(int, unix.WaitStatus) {}) {
		<-children
	}
	fmt.Println("guard: nobody left")
}

// As tini's cases have it: a kill of the shell reaches its whole process group.
func TestE1ProcessGroup(t *testing.T) {
	p := start(t, "none", "TEST_GUARD=group")
	p.expect(t, "guard: nobody left")
}
