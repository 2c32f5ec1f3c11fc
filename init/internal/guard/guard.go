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
// and messages into channel sends, or wait for a console or, in the end, for
// disks. So no child can be reaped before its pid is known, and os/exec, which
// waits on its own, must not be used here.
//
// PID 1 needs no oom_score_adj: the kernel's OOM killer passes over it, and its
// children would inherit it.
package guard

import (
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/fault"
	"hapax/init/internal/handoff"
	"hapax/init/internal/klog"
	"hapax/init/internal/mnt"
	"hapax/init/internal/service"
	"hapax/init/internal/shutdown"
	"hapax/init/internal/slim"
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

	// consolePatience is how long what was said may hold the handover. A console
	// that works takes it at once.
	consolePatience = 20 * time.Millisecond

	// An engine that has lived so long starts with a clean record.
	healthy = time.Minute

	shellPause = time.Second // between the end of a shell and the next

	// memoryLimit is for the garbage collector. The guard itself holds a few
	// hundred kilobytes.
	memoryLimit = 8 << 20
)

type guard struct {
	params *cmdline.Params
	log    *klog.Logger
	args   []string // what the kernel passed on for the real init
	began  moment
	kernel shutdown.System

	console *klog.Ring // say
	kmsg    *klog.Ring // log

	children map[int]func(unix.WaitStatus) // by pid: what is to be done when it has ended

	engine   int       // pid, 0 while none runs
	since    time.Time // when it was started
	link     *handoff.Peer
	restarts int
	pulse    pulse
	messages chan message

	checked *switchroot.Target // a root that has passed Check, while a shell of rd.break= holds it up
	target  *switchroot.Target // the root that the engine has been told to make way for
	noRoot  bool               // the root was given up: an engine that is started again must not look for it

	shell      int    // pid, 0 while none runs
	shellSetUp bool   // the shell's mounts are made
	then       func() // what a shell of rd.break= holds up; nil if it holds nothing

	services *service.Manager
	stays    bool // the machine is not handed over
	stirred  bool // children or services have had it do something since the last slim.Trim

	modprobe []byte // what the kernel started for request_module before there was an engine

	start  <-chan time.Time // fires when the engine is to be started again
	again  <-chan time.Time // fires when the shell is to be started again
	leave  <-chan time.Time // fires when the engine has had its time to drain
	reboot <-chan time.Time // fires when panic= says so

	dog     watchdog
	end     ending
	presses []time.Time // of ctrl-alt-del, the last few
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
	return run(args, outside{kernel: shutdown.Kernel(), kmsg: klog.Device, cmdline: kernelCmdline})
}

func kernelCmdline() ([]byte, error) { return os.ReadFile("/proc/cmdline") }

// The outside is what tests replace.
type outside struct {
	kernel  shutdown.System
	kmsg    func() io.Writer       // opened once /dev is there
	cmdline func() ([]byte, error) // read once /proc is there
}

func run(args []string, out outside) int {
	signals, children := catch()
	began := now()
	runtime.GOMAXPROCS(1) // there is nothing here to do in parallel
	debug.SetMemoryLimit(memoryLimit)
	mountErrs := mnt.Apply(mnt.Kernel(), "/", mnt.Early())
	raw, err := out.cmdline()
	// The kernel drops more than 10 lines per 5 s from user space otherwise.
	_ = os.WriteFile("/proc/sys/kernel/printk_devkmsg", []byte("on\n"), 0)

	g := &guard{
		params: cmdline.Parse(string(raw)), args: args, began: began, kernel: out.kernel,
		console: newConsole(), kmsg: newKmsg(out.kmsg()),
		messages: make(chan message, 16), children: map[int]func(unix.WaitStatus){},
	}
	g.end.failed = make(chan error, 1)
	g.log = klog.New(g.kmsg, g.params.LogLevel)
	g.dog = newWatchdog(g.params, g.log)
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
	g.loadServices()
	g.pause("cmdline", func() {
		g.startEngine()
		g.startServices()
	})
	g.loop(signals, children)
	return 1
}

// loop runs until the machine is handed over or ends.
func (g *guard) loop(signals, children <-chan os.Signal) {
	table := actions()
	for {
		select {
		case sig := <-signals:
			if act := table[sig]; act != nil {
				act(g)
			}
		case <-children:
			g.stirred = true
			g.reap()
		case m := <-g.messages:
			if m.from == g.link && !g.ending() {
				g.message(m.Message)
			}
		case <-g.pulse.next:
			g.checkPulse()
		case <-g.pulse.gone:
			g.giveUpOn()
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
			g.halt(shutdown.Reboot)
		case <-g.dog.next:
			fault.At("feed")
			if !g.end.gone.Load() {
				g.dog.feed()
			}
		case <-g.services.Due():
			g.services.Tick()
		case f := <-g.services.Work():
			g.stirred = true
			f()
		case <-g.end.stopped:
			g.terminate()
		case <-g.end.limit:
			g.overdue()
		case err := <-g.end.failed:
			g.log.Errorf("%v", err)
		}
	}
}

// message acts on what the engine says.
func (g *guard) message(m handoff.Message) {
	switch m.Verb {
	case handoff.Root:
		g.rootMounted(m.Text)
	case handoff.Settled:
		g.settled()
		slim.Trim() // this one stays
	case handoff.Rescue:
		g.rescue(m.Text)
	case handoff.Break:
		g.pause(m.Text, func() { g.send(handoff.Go) })
	case handoff.Pong:
		g.pulse.missed = 0
	case handoff.Power:
		g.halt(shutdown.PowerOff)
	case handoff.Done:
		switch {
		case g.target == nil:
		case m.Text != "": // the engine stays beside the real root until these are loaded
			g.switchRoot()
		default:
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
	g.checked = target
	g.pause("pre-pivot", g.depart)
}

// depart has the engine go, and the root that was checked take its place. If
// there is no engine any more, nothing is lacking without it.
func (g *guard) depart() {
	g.target, g.checked = g.checked, nil
	if g.engine == 0 {
		g.switchRoot()
		return
	}
	g.leave = time.After(g.params.Drain + exitGrace)
	g.send(handoff.Drain)
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
	g.leaveExit(g.target.Root)
	argv := g.arguments(g.target)
	g.log.Debugf("switch_root to %s", g.target.Init)
	g.dog.handOver()
	g.flush(consolePatience)
	slim.Allow()
	err := switchroot.Switch(g.target, argv, environment())
	g.dog.resume()
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

// panicReboot plans what panic= asks for when the boot cannot go on.
func (g *guard) panicReboot() {
	switch {
	case !g.params.HasPanic || g.params.Panic == 0:
		return
	case g.params.Panic < 0:
		g.halt(shutdown.Reboot)
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
