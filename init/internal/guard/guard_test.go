package guard

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/handoff"
	"hapax/init/internal/shutdown"
	"hapax/tests/need"
)

// The test binary plays three parts: the test, the guard as PID 1 of a pid
// namespace of its own, and the engine that this guard starts.
func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == EngineName:
		playEngine(os.Getenv("TEST_ENGINE"))
	case os.Getenv("TEST_NTH") != "":
		playNth(os.Getenv("TEST_NTH"), os.Args, harmless())
	case os.Getenv("TEST_ENGINE") != "" && os.Getpid() == 1:
		playGuard()
	default:
		os.Exit(m.Run())
	}
}

// playGuard runs the real guard on mounts that nobody else sees, without the
// shell of this machine.
func playGuard() {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Println("private mounts:", err)
		os.Exit(1)
	}
	if err := hideShell(); err != nil {
		fmt.Println("hide the shell:", err)
		os.Exit(1)
	}
	out := harmless()
	if list := os.Getenv("TEST_SERVICES"); list != "" {
		out.cmdline = func() ([]byte, error) { return []byte(os.Getenv("TEST_CMDLINE")), nil }
		if err := placeServices(list); err != nil {
			fmt.Println("services:", err)
			os.Exit(1)
		}
	}
	if part := os.Getenv("TEST_GUARD"); part != "" {
		playPart(part, out)
		os.Exit(0)
	}
	os.Exit(run(nil, out))
}

// harmless is an outside by which nothing of this machine is taken apart: swap,
// block devices and file systems have no namespace. The log goes to standard
// output.
func harmless() outside {
	kernel := shutdown.Kernel()
	kernel.Sync = func() {}
	kernel.Swapoff = func(string) error { return unix.EPERM }
	kernel.Detach = func(string) error { return unix.EPERM }
	kernel.ReadOnly = func(string) error { return unix.EPERM }
	return outside{kernel: kernel, kmsg: func() io.Writer { return os.Stdout }, cmdline: kernelCmdline}
}

// hideShell covers /bin/sh, so that no guard starts it.
func hideShell() error {
	return unix.Mount("/dev/null", handoff.ShellPath, "", unix.MS_BIND, "")
}

func playEngine(part string) {
	link, err := handoff.Inherited(EngineFD)
	if err != nil {
		fmt.Println("engine:", err)
		os.Exit(1)
	}
	switch part {
	case "crash":
		fmt.Println("engine: start", os.Getenv("HAPAX_RESTARTS"))
		os.Exit(7)
	case "bad root":
		say(link, handoff.Root, "/nowhere")
		m, err := link.Receive()
		fmt.Println("engine: answer", m.Verb, err)
	case "orphans":
		// Children of a child that is gone are PID 1's to reap.
		for range 200 {
			if err := exec.Command("/bin/bash", "-c", "sleep 0.01 & disown; exit").Run(); err != nil {
				fmt.Println("engine:", err)
			}
		}
		for deadline := 200; zombies() > 0 && deadline > 0; deadline-- {
			time.Sleep(10 * time.Millisecond)
		}
		fmt.Println("engine: zombies", zombies())
	case "wait":
		fmt.Println("engine: ready")
	case "settled":
		fmt.Println("engine: no root", os.Getenv("HAPAX_NOROOT"))
		time.Sleep(50 * time.Millisecond) // for a service that would not wait
		fmt.Println("engine: settled")
		say(link, handoff.Settled, "")
	case "boot":
		playBoot(link)
	case "stubborn":
		signal.Ignore(unix.SIGTERM, unix.SIGHUP)
		fmt.Println("engine: ready")
	case "kill":
		killPID1()
	case "storm":
		zombieStorm()
	case "exit":
		code, err := strconv.Atoi(os.Args[1])
		if err != nil {
			panic(err)
		}
		os.Exit(code)
	case "status":
		playStatus()
	}
	for {
		time.Sleep(time.Hour)
	}
}

// playBoot is an engine whose root is there.
func playBoot(link *handoff.Peer) {
	say(link, handoff.Root, "/sysroot")
	for {
		m, err := link.Receive()
		if err != nil {
			os.Exit(1)
		}
		if m.Verb == handoff.Drain {
			say(link, handoff.Done, "")
			os.Exit(0)
		}
	}
}

func say(link *handoff.Peer, v handoff.Verb, text string) {
	if err := link.Send(handoff.Message{Verb: v, Text: text}); err != nil {
		fmt.Println("engine:", err)
	}
}

// zombies counts the processes of the namespace that wait to be reaped.
func zombies() int {
	n := 0
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		b, _ := os.ReadFile("/proc/" + e.Name() + "/stat")
		if _, rest, ok := strings.Cut(string(b), ") "); ok && strings.HasPrefix(rest, "Z") {
			n++
		}
	}
	return n
}

// A pid1 is a guard that runs in its own pid and mount namespaces.
type pid1 struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func start(t *testing.T, part string, env ...string) *pid1 {
	t.Helper()
	need.Root(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), "TEST_ENGINE="+part), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		Pdeathsig:  unix.SIGKILL,
	}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		out.Close()
	})
	return &pid1{cmd, bufio.NewScanner(io.LimitReader(out, 1<<20))}
}

// expect reads lines until one contains want, and returns all it read.
func (p *pid1) expect(t *testing.T, want string) []string {
	t.Helper()
	var seen []string
	for p.lines.Scan() {
		seen = append(seen, p.lines.Text())
		if strings.Contains(p.lines.Text(), want) {
			return seen
		}
	}
	t.Fatalf("no line with %q; got:\n%s", want, strings.Join(seen, "\n"))
	return nil
}

// An engine that cannot live is started again a few times, each one told of
// it, and then there is a report instead of a loop.
func TestEngineIsRestarted(t *testing.T) {
	p := start(t, "crash")
	seen := strings.Join(p.expect(t, "the boot cannot go on"), "\n")
	for i := range maxRestarts + 1 {
		if !strings.Contains(seen, fmt.Sprintln("engine: start", i)) {
			t.Errorf("no start %d in:\n%s", i, seen)
		}
	}
	if strings.Contains(seen, fmt.Sprintln("engine: start", maxRestarts+1)) {
		t.Errorf("one start too many in:\n%s", seen)
	}
}

// A root without an init is answered with Stay while everything is in place.
func TestBadRootIsRefused(t *testing.T) {
	p := start(t, "bad root")
	seen := p.expect(t, "engine: answer stay <nil>")
	if all := strings.Join(seen, "\n"); !strings.Contains(all, "the boot cannot go on") {
		p.expect(t, "the boot cannot go on")
	}
}

func TestOrphansAreReaped(t *testing.T) {
	p := start(t, "orphans")
	p.expect(t, "engine: zombies 0")
}
