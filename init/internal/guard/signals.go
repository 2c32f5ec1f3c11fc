package guard

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/handoff"
	"hapax/init/internal/shutdown"
)

// rtmin is the first real-time signal that programs use, as glibc counts.
const rtmin = syscall.Signal(34)

// actions says what each signal has the guard do. All others are taken and do
// nothing; SIGCHLD has a channel of its own.
//
// The first five are those of busybox init, and of sysvinit where it has them;
// the real-time ones are those of systemd(1), for scripts that know only that.
func actions() map[os.Signal]func(*guard) {
	end := func(m shutdown.Method) func(*guard) { return func(g *guard) { g.halt(m) } }
	now := func(m shutdown.Method) func(*guard) { return func(g *guard) { g.haltNow(m) } }
	return map[os.Signal]func(*guard){
		unix.SIGTERM: end(shutdown.Reboot),
		unix.SIGINT:  (*guard).ctrlAltDel,
		unix.SIGUSR1: end(shutdown.Halt),
		unix.SIGUSR2: end(shutdown.PowerOff),
		unix.SIGHUP:  (*guard).reload,
		unix.SIGPWR:  end(shutdown.PowerOff),

		rtmin + 3:  end(shutdown.Halt),
		rtmin + 4:  end(shutdown.PowerOff),
		rtmin + 5:  end(shutdown.Reboot),
		rtmin + 6:  end(shutdown.Kexec),
		rtmin + 13: now(shutdown.Halt),
		rtmin + 14: now(shutdown.PowerOff),
		rtmin + 15: now(shutdown.Reboot),
		rtmin + 16: now(shutdown.Kexec),
	}
}

// lastSignal is SIGRTMAX.
const lastSignal = syscall.Signal(64)

// catch takes every signal that can be taken. Go installs handlers for nearly
// all of them when it starts, so the kernel's protection of PID 1, which is for
// signals without a handler, does not apply.
//
// SIGURG is the Go runtime's own and harmless. A SIGSEGV, SIGBUS, SIGFPE or
// SIGILL that was sent is taken here; a fault of the program itself still ends
// it. SIGCHLD only says that there is something to reap, however often it comes.
func catch() (signals, children <-chan os.Signal) {
	var list []os.Signal
	for sig := syscall.Signal(1); sig <= lastSignal; sig++ {
		switch sig {
		case unix.SIGKILL, unix.SIGSTOP, unix.SIGURG, unix.SIGCHLD:
		default:
			list = append(list, sig)
		}
	}
	all, chld := make(chan os.Signal, 64), make(chan os.Signal, 1)
	signal.Notify(all, list...)
	signal.Notify(chld, unix.SIGCHLD)
	return all, chld
}

// Whoever presses ctrl-alt-del so often within so long does not want to wait.
const (
	burst       = 7
	burstWindow = 2 * time.Second
)

// ctrlAltDel reboots, and at once if the keys are pressed again and again.
func (g *guard) ctrlAltDel() {
	now := time.Now()
	g.presses = append(g.presses, now)
	if len(g.presses) > burst {
		g.presses = g.presses[1:]
	}
	if len(g.presses) == burst && now.Sub(g.presses[0]) <= burstWindow {
		g.log.Warnf("ctrl-alt-del %d times within %v", burst, burstWindow)
		g.haltNow(shutdown.Reboot)
		return
	}
	g.halt(shutdown.Reboot)
}

// reload has the engine read its index and modprobe.d again.
func (g *guard) reload() {
	if g.engine != 0 && !g.ending() {
		g.send(handoff.Reload)
	}
}
