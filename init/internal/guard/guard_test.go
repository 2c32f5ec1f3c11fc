package guard

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/handoff"
	"hapax/tests/need"
)

// The test binary plays three parts: the test, the guard as PID 1 of a pid
// namespace of its own, and the engine that this guard starts.
func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == EngineName:
		playEngine(os.Getenv("TEST_ENGINE"))
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
	if err := unix.Mount("/dev/null", handoff.ShellPath, "", unix.MS_BIND, ""); err != nil {
		fmt.Println("hide the shell:", err)
		os.Exit(1)
	}
	os.Exit(Run(nil))
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
	}
	select {}
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

func start(t *testing.T, part string) *pid1 {
	t.Helper()
	need.Root(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "TEST_ENGINE="+part)
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
	seen := strings.Join(p.expect(t, "exit status 7"), "\n")
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

// No signal ends PID 1 but those that mean the end of the machine, which in a
// pid namespace is told by the signal that reboot(2) leaves with the parent.
func TestSignals(t *testing.T) {
	p := start(t, "wait")
	p.expect(t, "engine: ready")
	ends := map[syscall.Signal]syscall.Signal{
		unix.SIGINT: unix.SIGHUP, unix.SIGTERM: unix.SIGHUP, // restart
		unix.SIGUSR1: unix.SIGINT, unix.SIGUSR2: unix.SIGINT, unix.SIGPWR: unix.SIGINT, // halt, power off
	}
	for n := 1; n <= 64; n++ {
		sig := syscall.Signal(n)
		switch sig {
		case unix.SIGKILL, unix.SIGSTOP: // from a parent namespace nothing stops these
			continue
		}
		if _, ends := ends[sig]; ends {
			continue
		}
		if err := p.cmd.Process.Signal(sig); err != nil {
			t.Fatalf("signal %d: PID 1 has gone: %v", n, err)
		}
		time.Sleep(2 * time.Millisecond)
		if err := p.cmd.Process.Signal(syscall.Signal(0)); err != nil {
			t.Fatalf("PID 1 died of signal %d (%v)", n, sig)
		}
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid)); err != nil || strings.Contains(string(b), ") Z ") {
			t.Fatalf("PID 1 died of signal %d (%v)", n, sig)
		}
	}
	for sig, want := range ends {
		p := start(t, "wait")
		p.expect(t, "engine: ready")
		if err := p.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = p.cmd.Wait()
		status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !status.Signaled() || status.Signal() != want {
			t.Errorf("%v ended PID 1 with %v, want the namespace ended by %v", sig, p.cmd.ProcessState, want)
		}
	}
}
