package guard

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/service"
	"hapax/init/internal/shutdown"
)

// pause calls then, but first gives a shell if rd.break= asks for one at this
// point. An image that gives none goes on.
func (g *guard) pause(point string, then func()) {
	if !slices.Contains(g.params.Break, point) {
		then()
		return
	}
	if program, reason := theShell(); program == "" {
		g.log.Warnf("rd.break=%s: %s: going on", point, reason)
		then()
		return
	}
	g.say("\nhapax: stopped at rd.break=" + point + "; the boot goes on when this shell ends.\n")
	g.then = then
	g.startShell()
	if g.shell == 0 { // there is no terminal
		g.then = nil
		then()
	}
}

// shellEnded goes on where the shell was a stop on the way, does what
// rd.emergency= says where it was the end, and else starts another.
func (g *guard) shellEnded(status unix.WaitStatus) {
	g.shell = 0
	if g.ending() {
		return
	}
	switch then := g.then; {
	case then != nil:
		g.then = nil
		then()
	case g.noRoot && g.params.Emergency != "":
		g.emergency()
	default:
		g.log.Infof("the shell has ended (%s); starting another", service.Describe(status))
		g.again = time.After(shellPause)
	}
}

// emergency ends the machine as rd.emergency= says, if it says something.
func (g *guard) emergency() {
	switch g.params.Emergency {
	case "reboot":
		g.halt(shutdown.Reboot)
	case "poweroff":
		g.halt(shutdown.PowerOff)
	case "halt":
		g.halt(shutdown.Halt)
	}
}
