// Package applet has the programs that an image needs around modules: modprobe,
// insmod, rmmod, lsmod and modinfo as kmod 30 has them, and hapaxctl; and, as
// busybox has them, reboot, poweroff and halt. They are chosen by the name under
// which the binary is called.
//
// What only reads is answered here, from the module index and from sysfs. What
// changes the kernel is one request to the engine (package control), so the one
// table of the engine knows of it; no applet calls finit_module(2) or
// delete_module(2).
//
// Scripts that were written for kmod find the same lines on the same streams and
// the same exit codes; docs/modprobe.md lists where that ends.
//
// The kernel's own requests come through modprobe, too, and each holds a thread
// of the kernel. So up to the moment when the request is sent, modprobe reads no
// file and opens nothing but the socket.
package applet

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/control"
)

// A main is an applet. It returns the exit code.
type main func(e *env, args []string) int

// find returns the applet of that name, nil if there is none.
func find(name string) main {
	switch name {
	case "modprobe":
		return runModprobe
	case "insmod":
		return runInsmod
	case "rmmod":
		return runRmmod
	case "lsmod":
		return runLsmod
	case "modinfo":
		return runModinfo
	case "hapaxctl":
		return runHapaxctl
	case "reboot", "poweroff", "halt":
		return runHalt
	}
	return nil
}

// Names returns the names of all applets.
func Names() []string {
	return []string{"modprobe", "insmod", "rmmod", "lsmod", "modinfo", "hapaxctl", "reboot", "poweroff", "halt"}
}

// Named reports whether there is an applet for argv[0].
func Named(argv0 string) bool { return find(filepath.Base(argv0)) != nil }

// patience is for how long modprobe and its kin ask again when the engine was
// lost: longer than the guard takes to start another one.
const patience = 3 * time.Second

// Run is the whole program for the arguments args, of which the first one has
// its name. It returns the exit code.
func Run(args []string) int {
	stdout := bufio.NewWriter(os.Stdout)
	_, noTerminal := unix.IoctlGetTermios(1, unix.TCGETS)
	return run(&env{
		root:   "/",
		client: &control.Client{Patience: patience},
		guard:  control.GuardClient(),
		stdout: stdout, terminal: noTerminal == nil,
		stderr: os.Stderr,
		getenv: os.Getenv,
		down:   machine(),
	}, args)
}

func run(e *env, args []string) int {
	applet := find(filepath.Base(args[0]))
	if applet == nil {
		return 2
	}
	if len(args) > 1 && filepath.Base(args[0]) == "hapaxctl" {
		if other := find(args[1]); other != nil { // hapaxctl modprobe ...
			args, applet = args[1:], other
		}
	}
	e.argv0, e.name, e.level = args[0], filepath.Base(args[0]), levelWarning
	code := applet(e, args[1:])
	if err := e.stdout.Flush(); err != nil && code == 0 {
		return 1
	}
	return code
}

// An env is what an applet sees of the world.
type env struct {
	argv0, name string
	root        string // where /proc, /sys, /lib/modules and /etc/modprobe.d are
	client      *control.Client
	guard       *control.Client // for services
	stdout      *bufio.Writer
	terminal    bool // stdout is one
	stderr      io.Writer
	getenv      func(string) string
	down        down

	level level // what is logged
}

// path returns the path of a file below the root.
func (e *env) path(elem ...string) string {
	return filepath.Join(append([]string{e.root}, elem...)...)
}
