// Command guest is the program that the tests put into QEMU guests. It is static and plays the part that its place asks for:
//
//	/init, guest_role=null    the least that can be PID 1: prints the clock and powers off
//	/init, guest_role=udevd   coldplugs with Debian's systemd-udevd, the oracle, then serves the test
//	guest_role=storm-NAME     a contender of the storm bench (package guest), then serves the test
//	/sbin/init as PID 1       the program that a root file system starts: announces itself, then serves the test
//	/bin/sh of an image       serves the test; with -c it makes way for the shell in guest.RealShell
//
// "Serves the test" means that it takes the commands of package guest on its standard input. The kernel hands
// guest_role on as an environment variable.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hapax/tests/internal/guest"
)

func main() {
	if os.Getpid() != 1 {
		if len(os.Args) == 2 && os.Args[1] == guest.Watcher {
			watchMemory()
			return
		}
		if len(os.Args) > 2 && os.Args[1] == guest.Do {
			result, err := do(os.Args[2], strings.Join(os.Args[3:], " "), nil)
			announce(os.Args[2], result, err)
			return
		}
		if len(os.Args) > 1 && os.Args[1] == "-c" {
			err := unix.Exec(guest.RealShell, append([]string{"gosh"}, os.Args[1:]...), os.Environ())
			fmt.Fprintf(os.Stderr, "%s: %v\n", guest.RealShell, err)
			os.Exit(127)
		}
		serve()
		return
	}
	// Before anything else: this clock is what the boot benchmark compares.
	announce("start", guest.Start{Clock: monotonic(), TSC: tsc(), Args: os.Args, Env: os.Environ()}, nil)
	switch role := os.Getenv("guest_role"); {
	case strings.HasPrefix(role, guest.StormRole):
		storm(strings.TrimPrefix(role, guest.StormRole))
		serve()
	case os.Args[0] != "/init":
		serve()
	case role == "udevd":
		coldplug, err := udevd()
		announce("udevd", coldplug, err)
		serve()
	case role != "null":
		announce("role", nil, fmt.Errorf("guest_role=%q: want null or udevd", role))
	}
	powerOff()
}

// announce prints one reply. Prefix and line end are part of a single write, so that they stay together.
func announce(command string, result any, err error) {
	r := guest.Reply{Command: command}
	if err == nil {
		r.Result, err = json.Marshal(result)
	}
	if err != nil {
		r.Result, r.Error = nil, err.Error()
	}
	line, err := json.Marshal(r)
	if err != nil {
		line = fmt.Appendf(nil, `{"cmd":%q,"error":%q}`, command, err)
	}
	fmt.Printf("%s%s\n", guest.Prefix, line)
}

func monotonic() time.Duration { return clock(unix.CLOCK_MONOTONIC) }

func clock(id int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return -1 // no kernel lacks these clocks
	}
	return time.Duration(ts.Nano())
}

// powerOff ends the guest. It returns only if the kernel refuses. sync(2) alone may leave a file's directory entry in ext4's
// journal only, where debugfs does not look; a remount writes all of it to its place.
func powerOff() {
	unix.Sync()
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		fmt.Printf("guest: the root stays writable: %v\n", err)
	}
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		announce(guest.PowerOff, nil, err)
	}
}
