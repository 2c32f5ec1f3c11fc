// Package guard is PID 1. It mounts the kernel's file systems, starts the
// engine and starts it again if it dies, reaps, answers signals, gives a shell
// when the boot cannot go on, and hands the machine over to the real root.
//
// It parses no device data, loads no module and blocks on no device: an error
// in PID 1 is a kernel panic, and execve(2) waits for every thread of the
// process, so one thread that is stuck in a driver would hold the handover for
// ever. All that is the engine's, a child that may fail.
//
// One goroutine owns all state, forks and reaps; the others only turn signals
// and messages into channel sends. So no child can be reaped before its pid is
// known, and os/exec, which waits on its own, must not be used here.
package guard

import (
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/handoff"
	"hapax/init/internal/klog"
	"hapax/init/internal/mnt"
	"hapax/init/internal/switchroot"
)

// EngineName is the argv[0] under which the guard starts the engine.
const EngineName = "hapax-engine"

// EngineFD is the descriptor of the engine's end of the handoff line.
const EngineFD = 3

const (
	// The engine may crash so often before the guard gives up, and is started
	// again after a pause that doubles from the first one.
	maxRestarts  = 6
	firstRestart = 50 * time.Millisecond

	// exitGrace is how long after hapax.drain= the guard waits for the engine
	// to go. A thread that is stuck in a module's init keeps the process, but
	// not the machine.
	exitGrace = 500 * time.Millisecond

	// doneGrace is how long an engine that has said that it is done may take to
	// end. One that has read a dead disk cannot: the kernel waits for the read.
	doneGrace = 25 * time.Millisecond

	// An engine that has lived so long starts with a clean record.
	healthy = time.Minute

	shellPause   = time.Second     // between the end of a shell and the next
	syncPatience = 5 * time.Second // how long dirty data may hold the end of the machine
)

type guard struct {
	params *cmdline.Params
	log    *klog.Logger
	args   []string // what the kernel passed on for the real init
	began  moment

	engine   int       // pid, 0 while none runs
	since    time.Time // when it was started
	link     *handoff.Peer
	restarts int
	messages chan message

	target *switchroot.Target // set once a root has passed Check
	noRoot bool               // the root was given up: an engine that is started again must not look for it

	shell      int    // pid, 0 while none runs
	shellSetUp bool   // the shell's mounts are made
	then       func() // what a shell of rd.break= holds up; nil if it holds nothing

	modprobe []byte // what the kernel started for request_module before there was an engine

	start  <-chan time.Time // fires when the engine is to be started again
	again  <-chan time.Time // fires when the shell is to be started again
	leave  <-chan time.Time // fires when the engine has had its time to drain
	reboot <-chan time.Time // fires when panic= says so
}

// A message carries the engine's line it came from, so that the last words of
// an engine that is gone are not taken for those of its successor.
type message struct {
	from *handoff.Peer
	handoff.Message
}

// Run is the whole life of PID 1; args are its arguments without argv[0]. It
// returns only if it is not called as PID 1 could be.
func Run(args []string) int {
	began := now()
	runtime.GOMAXPROCS(1) // there is nothing here to do in parallel
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, handled()...)
	mountErrs := mnt.Apply(mnt.Kernel(), "/", mnt.Early())
	raw, err := os.ReadFile("/proc/cmdline")
	// The kernel drops more than 10 lines per 5 s from user space otherwise.
	_ = os.WriteFile("/proc/sys/kernel/printk_devkmsg", []byte("on\n"), 0)

	g := &guard{params: cmdline.Parse(string(raw)), args: args, began: began, messages: make(chan message, 16)}
	g.log = klog.Open(g.params.LogLevel)
	if st, err := os.Stat(mnt.SecurityDir); err == nil && st.IsDir() {
		mountErrs = append(mountErrs, mnt.Apply(mnt.Kernel(), "/", mnt.Security())...)
	}
	if g.params.Trace {
		mountErrs = append(mountErrs, mnt.Apply(mnt.Kernel(), "/", mnt.Tracing())...)
	}
	for _, err := range mountErrs {
		g.log.Errorf("%v", err)
	}
	if err != nil {
		g.log.Errorf("no kernel command line: %v", err)
	}
	for _, w := range g.params.Warnings {
		g.log.Warnf("%s", w)
	}
	// Ctrl-Alt-Del becomes SIGINT instead of an immediate reset.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF)

	if g.modprobe, err = os.ReadFile(handoff.ModprobeSysctl); err != nil {
		g.log.Debugf("%v", err) // a kernel without modules
	}
	g.pause("cmdline", g.startEngine)
	g.loop(signals)
	return 1
}

// handled lists the signals whose default action, under Go, would end the
// process or is wanted here. Go installs handlers for them at start, so the
// kernel's protection of PID 1 does not apply.
func handled() []os.Signal {
	return []os.Signal{
		unix.SIGCHLD, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGPIPE, unix.SIGALRM, unix.SIGABRT, unix.SIGTRAP, unix.SIGSYS, unix.SIGXCPU, unix.SIGXFSZ,
		unix.SIGVTALRM, unix.SIGPROF, unix.SIGIO, unix.SIGPWR, unix.SIGSTKFLT,
		unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU,
		// Sent by kill(2); a fault of the program itself still ends it.
		unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL,
	}
}

// loop runs until the machine is handed over or ends.
func (g *guard) loop(signals <-chan os.Signal) {
	for {
		select {
		case sig := <-signals:
			g.signal(sig)
		case m := <-g.messages:
			if m.from == g.link {
				g.message(m.Message)
			}
		case <-g.start:
			g.start = nil
			g.startEngine()
		case <-g.again:
			g.again = nil
			g.startShell()
		case <-g.leave:
			g.log.Warnf("the engine has not ended in time: going on without it")
			g.killEngine()
			g.switchRoot()
		case <-g.reboot:
			g.halt(unix.LINUX_REBOOT_CMD_RESTART)
		}
	}
}

// signal acts on one signal. Those not named are taken and do nothing.
func (g *guard) signal(sig os.Signal) {
	switch sig {
	case unix.SIGCHLD:
		g.reap()
	case unix.SIGINT, unix.SIGTERM:
		g.halt(unix.LINUX_REBOOT_CMD_RESTART)
	case unix.SIGUSR1:
		g.halt(unix.LINUX_REBOOT_CMD_HALT)
	case unix.SIGUSR2, unix.SIGPWR:
		g.halt(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
}

// reap collects every child that has ended, orphans of others included.
func (g *guard) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		switch pid {
		case g.engine:
			g.engineEnded(status)
		case g.shell:
			g.shellEnded(status)
		}
	}
}

// message acts on what the engine says.
func (g *guard) message(m handoff.Message) {
	switch m.Verb {
	case handoff.Root:
		g.rootMounted(m.Text)
	case handoff.Settled:
		g.startShell()
	case handoff.Rescue:
		g.rescue(m.Text)
	case handoff.Break:
		g.pause(m.Text, func() { g.send(handoff.Go) })
	case handoff.Done:
		if g.target != nil {
			g.leave = time.After(doneGrace)
		}
	}
}

// rootMounted checks everything that can be checked while there is still a
// way back, and only then lets the engine go.
func (g *guard) rootMounted(root string) {
	target, err := switchroot.Check(root, g.params.Init)
	if err != nil {
		g.send(handoff.Stay)
		g.rescue(err.Error())
		return
	}
	g.log.Debugf("%s has an init: %s", root, target.Init)
	target.Logf = g.log.Warnf
	g.pause("pre-pivot", func() {
		g.target = target
		g.leave = time.After(g.params.Drain + exitGrace)
		g.send(handoff.Drain)
	})
}

func (g *guard) send(v handoff.Verb) {
	if err := g.link.Send(handoff.Message{Verb: v}); err != nil {
		g.log.Warnf("engine: %v", err)
	}
}

// switchRoot does not come back if all goes well.
func (g *guard) switchRoot() {
	g.leave = nil
	g.killShell()
	g.returnUpcalls()
	_ = os.MkdirAll(initramfsDir, 0o755) // there is a /run, or nobody will look there
	argv := g.arguments(g.target)
	g.log.Debugf("switch_root to %s", g.target.Init)
	err := switchroot.Switch(g.target, argv, environment())
	g.log.Errorf("%v", err)
	if e, ok := err.(*switchroot.Error); ok && e.Committed {
		g.panicReboot()
		return
	}
	g.target = nil
	g.rescue(err.Error())
	if g.engine == 0 { // else its end will be seen, and another started then
		g.start = time.After(firstRestart)
	}
}

// returnUpcalls makes the kernel start the program again that it would have
// started without an engine. Written late, after the last engine has gone, it
// holds for the new root; a switch_root that fails has another engine write its
// own.
func (g *guard) returnUpcalls() {
	if len(g.modprobe) == 0 {
		return
	}
	if err := os.WriteFile(handoff.ModprobeSysctl, g.modprobe, 0); err != nil {
		g.log.Warnf("%v", err)
	}
	_ = os.Remove(handoff.HelperPath) // it would lead nowhere in the new root
}

// environment is what the real init gets: what the kernel gives, less what
// concerns this process alone.
func environment() []string {
	env := make([]string, 0, 8)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "HAPAX_") {
			env = append(env, kv)
		}
	}
	return env
}

// halt ends the machine. File systems that the initramfs mounted are flushed;
// there are no services yet that would have to be told.
func (g *guard) halt(cmd int) {
	g.log.Infof("%s", map[int]string{
		unix.LINUX_REBOOT_CMD_RESTART:   "rebooting",
		unix.LINUX_REBOOT_CMD_HALT:      "halting",
		unix.LINUX_REBOOT_CMD_POWER_OFF: "powering off",
	}[cmd])
	synced := make(chan struct{})
	go func() {
		unix.Sync()
		close(synced)
	}()
	select {
	case <-synced:
	case <-time.After(syncPatience): // a disk that does not answer
		g.log.Warnf("the disks are not in sync after %v", syncPatience)
	}
	err := unix.Reboot(cmd)
	g.log.Errorf("reboot: %v", err)
}

// panicReboot plans what panic= asks for when the boot cannot go on.
func (g *guard) panicReboot() {
	switch {
	case !g.params.HasPanic || g.params.Panic == 0:
		return
	case g.params.Panic < 0:
		g.halt(unix.LINUX_REBOOT_CMD_RESTART)
	default:
		g.log.Warnf("rebooting in %d s (panic=)", g.params.Panic)
		g.reboot = time.After(time.Duration(g.params.Panic) * time.Second)
	}
}

// exists reports whether an executable file is at path, following links.
func exists(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

func describe(status unix.WaitStatus) string {
	switch {
	case status.Signaled():
		return "signal " + unix.SignalName(status.Signal())
	case status.Exited():
		return "exit status " + strconv.Itoa(status.ExitStatus())
	}
	return "status " + strconv.Itoa(int(status))
}
