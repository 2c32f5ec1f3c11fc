// Package shutdown ends the machine when nothing runs any more but PID 1: it
// writes out what is dirty, ends swapping, unmounts, takes loop, device-mapper
// and md devices apart, and calls reboot(2).
//
// Who calls it has ended all other processes before. That is the guard of an
// image that stays, or the systemd-shutdown of a system that was switched to,
// which comes back to the initramfs for what it cannot do while it runs from
// it: unmount its own root.
//
// Each call that a device can hold up runs in a goroutine of its own and is
// given up after a stated time. What is stuck is left as it is: in the end the
// machine goes down.
package shutdown

import (
	"fmt"
	"strings"
	"time"
)

// A Method is the way in which the machine ends.
type Method uint8

// The methods. Reboot becomes Kexec if a kernel has been loaded for it.
const (
	Reboot Method = iota
	Halt
	PowerOff
	Kexec
)

// names are those by which systemd-shutdown(8) calls its helper.
func names() []string { return []string{"reboot", "halt", "poweroff", "kexec"} }

// String returns "reboot", "halt", "poweroff" or "kexec".
func (m Method) String() string { return names()[m] }

// ParseMethod is the inverse of String.
func ParseMethod(s string) (m Method, ok bool) {
	for i, name := range names() {
		if s == name {
			return Method(i), true
		}
	}
	return Reboot, false
}

// The limits. A step that reaches one is given up with a line in the log.
const (
	syncStall  = 10 * time.Second // without progress, so often
	syncStalls = 3
	callLimit  = 10 * time.Second // of one unmount, remount, swapoff or detach
	maxPasses  = 16               // over mounts and devices, each with progress
)

// Options say how the machine ends.
type Options struct {
	Method Method
	Logf   func(format string, args ...any) // nil is silent
	Before func()                           // called right before reboot(2); nil for nothing
}

// A closer is one run of Finish.
type closer struct {
	System
	logf  func(format string, args ...any)
	stuck map[string]bool // what did not return in time: not touched again
	quiet map[string]bool // what has been complained about
}

// Finish carries the steps out, in order, and calls reboot(2). It returns only
// if the kernel refuses that. With a disk that does not answer it takes half a
// minute for each step that needs the disk.
func Finish(sys System, o Options) error {
	c := newCloser(sys, o.Logf)
	for _, step := range sequence() {
		step(c)
	}
	if o.Before != nil {
		o.Before()
	}
	return Now(sys, o)
}

// sequence is what is done before reboot(2). It writes twice, for unmounting
// and taking devices apart can wait for much, and the first time is the one
// that matters if a later step hangs.
func sequence() []func(*closer) {
	return []func(*closer){
		(*closer).sync,
		(*closer).takeApart,
		(*closer).protect,
		(*closer).sync,
	}
}

func newCloser(sys System, logf func(string, ...any)) *closer {
	if logf == nil {
		logf = func(string, ...any) {}
	}
	return &closer{System: sys, logf: logf, stuck: map[string]bool{}, quiet: map[string]bool{}}
}

// Now calls reboot(2) at once. Where the machine cannot do what Method says, it
// does what comes next to that.
func Now(sys System, o Options) error {
	c := newCloser(sys, o.Logf)
	method := o.Method
	if method == Reboot && c.kexecLoaded() {
		method = Kexec
	}
	err := sys.Reboot(method, c.argument(method))
	switch method {
	case Kexec:
		c.logf("kexec: %v; rebooting instead", err)
		return sys.Reboot(Reboot, "")
	case PowerOff:
		c.logf("poweroff: %v; halting instead", err)
		return sys.Reboot(Halt, "")
	}
	return fmt.Errorf("%v: %w", method, err)
}

func (c *closer) kexecLoaded() bool {
	b, err := c.ReadFile("/sys/kernel/kexec_loaded")
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// ParamPaths are where the argument of a reboot is left, for reboot(2) with
// LINUX_REBOOT_CMD_RESTART2: by the applet of this image and by systemctl(1).
func ParamPaths() []string { return []string{"/run/hapax/reboot-param", "/run/systemd/reboot-param"} }

const maxArgument = 255 // the kernel takes 256 bytes with the NUL

func (c *closer) argument(m Method) string {
	if m != Reboot {
		return ""
	}
	for _, path := range ParamPaths() {
		b, err := c.ReadFile(path)
		if arg := strings.TrimSpace(string(b)); err == nil && arg != "" && len(arg) <= maxArgument && !strings.Contains(arg, "\x00") {
			return arg
		}
	}
	return ""
}

// limited runs call, which may never return, and reports whether it succeeded.
// With last its error is logged, once for each name: before, a later pass may
// succeed.
func (c *closer) limited(name string, last bool, call func() error) bool {
	if c.stuck[name] {
		return false
	}
	done := make(chan error, 1)
	go func() { done <- call() }()
	timer := time.NewTimer(callLimit)
	defer timer.Stop()
	select {
	case err := <-done:
		if err != nil && last && !c.quiet[name] {
			c.quiet[name] = true
			c.logf("%s: %v", name, err)
		}
		return err == nil
	case <-timer.C:
		c.stuck[name] = true
		c.logf("%s: no end after %v: left as it is", name, callLimit)
		return false
	}
}
