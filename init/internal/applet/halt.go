package applet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/shutdown"
)

const haltHelp = `Usage: PROGRAM [-d SEC] [-n] [-f] [-p] [-w] [ARGUMENT]
	-d, --delay=SEC  wait so long first
	-f, --force      call reboot(2) here and now instead of asking /init
	-n, --no-sync    with -f: do not write out what is dirty first
	-p, --poweroff   halt: switch the power off
	-w, --wtmp-only  do nothing: there is no wtmp
	-h, --help       show this help
ARGUMENT is handed to the firmware by reboot.
`

// down is how runHalt reaches the machine.
type down struct {
	sync   func() // returns, whatever the disks do
	kill   func(pid int, sig unix.Signal) error
	reboot func(m shutdown.Method, arg string) error
}

func machine() down {
	kernel := shutdown.Kernel()
	return down{func() { shutdown.Sync(kernel) }, unix.Kill, kernel.Reboot}
}

// runHalt is reboot, poweroff and halt. The kernel calls the first two itself,
// when a device is too hot or a hypervisor asks (kernel/reboot.c).
func runHalt(e *env, args []string) int {
	g := getopt{argv0: e.argv0, shorts: "d:nfpwh", longs: []long{
		{"delay", true, 'd'}, {"no-sync", false, 'n'}, {"force", false, 'f'}, {"poweroff", false, 'p'},
		{"wtmp-only", false, 'w'}, {"help", false, 'h'},
	}}
	g.parse(args)
	method, _ := shutdown.ParseMethod(e.name)
	sync, force, delay := true, false, time.Duration(0)
	for _, o := range g.opts {
		switch o.code {
		case 'd':
			var ok bool
			if delay, ok = parseTime(o.arg); !ok && o.arg != "0" {
				fmt.Fprintf(e.stderr, "%s: -d %s: want a number of seconds\n", e.argv0, o.arg)
				return 1
			}
		case 'n':
			sync = false
		case 'f':
			force = true
		case 'p':
			method = shutdown.PowerOff
		case 'w':
			return 0
		case 'h':
			fmt.Fprint(e.stdout, strings.ReplaceAll(haltHelp, "PROGRAM", e.name))
			return 0
		default:
			fmt.Fprintln(e.stderr, o.arg)
			return 1
		}
	}
	time.Sleep(delay)
	if sync && force { // else PID 1 does it: it must hear of this even if a disk hangs
		e.down.sync()
	}
	if err := e.end(method, strings.Join(g.operands, " "), force); err != nil {
		fmt.Fprintf(e.stderr, "%s: %v\n", e.argv0, err)
		return 1
	}
	return 0
}

// end has PID 1 end the machine, or with force does it itself.
func (e *env) end(m shutdown.Method, arg string, force bool) error {
	if m != shutdown.Reboot {
		arg = ""
	}
	if force {
		return e.down.reboot(m, arg)
	}
	if arg != "" {
		file := e.path(shutdown.ParamPaths()[0])
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(arg+"\n"), 0o644); err != nil {
			return err
		}
	}
	sig := map[shutdown.Method]unix.Signal{
		shutdown.Reboot: unix.SIGTERM, shutdown.Halt: unix.SIGUSR1, shutdown.PowerOff: unix.SIGUSR2,
	}[m]
	return e.down.kill(1, sig)
}
