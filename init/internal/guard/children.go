package guard

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/handoff"
	"hapax/init/internal/klog"
	"hapax/init/internal/mnt"
	"hapax/init/internal/service"
)

// startEngine forks the engine, which inherits the console as its standard
// files and its end of the handoff line.
func (g *guard) startEngine() {
	link, end, err := handoff.Pair()
	if err != nil {
		g.engineLost("start the engine: " + err.Error())
		return
	}
	defer end.Close()
	env := append(os.Environ(), "HAPAX_RESTARTS="+strconv.Itoa(g.restarts), engineProcs())
	if g.noRoot {
		env = append(env, "HAPAX_NOROOT=1")
	}
	pid, err := g.spawn(handoff.Self(), []string{EngineName}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   env,
		Files: []uintptr{0, 1, 2, end.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}, g.engineEnded)
	if err != nil {
		link.Close()
		g.engineLost("start the engine: " + err.Error())
		return
	}
	g.engine, g.link, g.since = pid, link, time.Now()
	g.pulse = pulse{next: time.After(pulseEvery)}
	protect(pid)
	go g.listen(link)
}

// protect makes the OOM killer pass over the engine as long as there is anything
// else: a service that eats the memory goes first.
func protect(pid int) {
	_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte(engineScore), 0)
}

const engineScore = "-900"

// engineProcs bounds the threads of the engine that run Go code at a time, on a
// machine of many processors: its work is one walk, one table and short answers,
// and a loader thread in a system call does not count. The runtime would keep
// memory for each processor and wake a thread on each to collect garbage. A value
// of the environment, which stands before it, is the one that counts.
func engineProcs() string {
	return "GOMAXPROCS=" + strconv.Itoa(min(runtime.NumCPU(), maxEngineProcs))
}

const maxEngineProcs = 4

// listen passes on the messages of one engine until its line ends.
func (g *guard) listen(link *handoff.Peer) {
	for {
		m, err := link.Receive()
		if err != nil {
			return
		}
		g.messages <- message{link, m}
	}
}

// engineEnded acts on the engine's end: the handover if it was asked to go,
// else another start.
func (g *guard) engineEnded(status unix.WaitStatus) {
	g.engine = 0
	g.link.Close()
	g.pulse = pulse{}
	switch {
	case g.ending():
		return
	case g.target != nil:
		g.switchRoot()
		return
	case g.checked != nil:
		g.log.Warnf("the engine has ended (%s): its root is mounted, so the boot goes on without it", service.Describe(status))
		return
	}
	g.engineLost("the engine has ended: " + service.Describe(status))
}

// engineLost plans another start, or gives up after too many.
func (g *guard) engineLost(reason string) {
	g.log.Errorf("%s", reason)
	if time.Since(g.since) > healthy {
		g.restarts = 0
	}
	if g.restarts++; g.restarts > maxRestarts {
		g.rescue("the engine ended " + strconv.Itoa(g.restarts) + " times; " + reason)
		if g.stays {
			g.settled() // it never will, and there are services that wait for it
		}
		return
	}
	g.start = time.After(firstRestart << (g.restarts - 1))
}

// rescue says why the boot cannot go on and gives a shell, if there is one.
// The engine keeps running: a device that is plugged in is still served.
//
// The kernel log gets the first line alone, for what goes there appears on the
// console as well.
func (g *guard) rescue(reason string) {
	g.noRoot = true
	first, _, _ := strings.Cut(reason, "\n")
	g.log.Errorf("%s", first)
	if g.stays {
		return // the services are what matters
	}
	switch program, closed := theShell(); {
	case g.params.NoShell:
		g.say("\nhapax: the boot cannot go on, and rd.shell=0 forbids a shell.\n" + indent(reason))
		g.emergency()
	case program == "":
		g.say("\nhapax: the boot cannot go on, and " + closed + ".\n" + indent(reason))
		g.emergency()
	default:
		g.say("\n" + account() + "\nhapax: the boot cannot go on. This is the shell of the image.\n" + indent(reason))
		g.startShell()
	}
	g.panicReboot()
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("  " + klog.Printable(strings.TrimSuffix(line, "\n")) + "\n")
	}
	return b.String()
}

// mountForShell makes the mounts that an interactive shell needs.
func (g *guard) mountForShell() {
	if g.shellSetUp {
		return
	}
	g.shellSetUp = true
	for _, err := range mnt.Apply(mnt.Kernel(), "/", mnt.Shell()) {
		g.log.Warnf("%v", err)
	}
}

// startShell starts the image's shell on the console for somebody who has to
// look into a boot, or what asks for its password, unless there is one already
// or the image gives none.
func (g *guard) startShell() {
	program, reason := theShell()
	switch {
	case g.shell != 0 || g.again != nil || g.services.Runs(service.ShellName):
		return
	case program == "":
		g.log.Debugf("no shell: %s", reason)
		return
	}
	g.mountForShell()
	tty, err := openConsole()
	if err != nil {
		g.log.Warnf("no terminal for the shell: %v", err)
		return
	}
	defer tty.Close()
	fd := tty.Fd()
	pid, err := g.spawn(program, []string{program}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"HOME=/", "TERM=" + term(), "PATH=" + handoff.SearchPath, "PS1=hapax# "},
		Files: []uintptr{fd, fd, fd},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0},
	}, g.shellEnded)
	if err != nil {
		g.log.Errorf("start %s: %v", program, err)
		return
	}
	g.shell = pid
}

// killEngine ends an engine that is late, so that nothing loads modules beside
// the real root. A thread that is stuck in a driver keeps the process for a
// while, but it starts nothing any more.
func (g *guard) killEngine() {
	if g.engine != 0 {
		_ = unix.Kill(g.engine, unix.SIGKILL)
		g.pulse.gone = time.After(killGrace)
	}
}

// killShell ends the shell and what it started, before their root goes away.
func (g *guard) killShell() {
	if g.shell != 0 {
		_ = unix.Kill(-g.shell, unix.SIGKILL)
		g.forget(g.shell)
		g.shell = 0
	}
	g.again, g.then = nil, nil
}

// openConsole opens the terminal behind the console. It does not wait for the carrier of a serial line.
func openConsole() (*os.File, error) {
	path := consolePath()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	_ = unix.SetNonblock(fd, false) // of a file that is open it does not fail
	return os.NewFile(uintptr(fd), path), nil
}

// term returns the terminal type that the kernel passes in TERM.
func term() string {
	if t := os.Getenv("TERM"); t != "" {
		return t
	}
	return "linux"
}
