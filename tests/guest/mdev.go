package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hapax/tests/internal/guest"
)

// mdevRules is the line of mdev.conf that the help text of busybox gives for loading modules.
const mdevRules = "$MODALIAS=.* 0:0 660 @/sbin/modprobe -b -q \"$MODALIAS\"\n"

// mdev coldplugs as a system of busybox does: the daemon listens, mdev -s makes the device nodes, and "add" written to
// each uevent file has the daemon start a modprobe for each modalias, one after the other.
func mdev() (guest.Storm, error) {
	const shell = "/bin/sh" // runs the commands of the rules; under hapax it is this program
	err := errors.Join(
		earlyMounts(), os.MkdirAll("/etc", 0o755), os.WriteFile("/etc/mdev.conf", []byte(mdevRules), 0o644),
		os.Remove(shell), os.Symlink(stormPath("busybox"), shell),
	)
	if err != nil {
		return guest.Storm{}, err
	}
	took := guest.Storm{Begun: monotonic()}
	daemon := exec.Command(stormPath("busybox"), "mdev", "-df")
	daemon.Env = []string{"PATH=/sbin:/bin"}
	if err := daemon.Start(); err != nil {
		return took, err
	}
	for !listens(daemon.Process.Pid) {
		time.Sleep(time.Millisecond)
	}
	if err := command(stormPath("busybox"), "mdev", "-s"); err != nil {
		return took, err
	}
	if err := trigger("/sys"); err != nil {
		return took, err
	}
	took.Settled, err = awaitIdle(daemon.Process.Pid)
	return took, err
}

// trigger has the kernel announce all devices once more. Those that vanish meanwhile are left out.
func trigger(sysfs string) error {
	return filepath.WalkDir(filepath.Join(sysfs, "devices"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "uevent" {
			err = os.WriteFile(path, []byte("add"), 0)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		return err
	})
}

// awaitIdle returns when the daemon has had nothing to do for a while, with the time at which that began.
func awaitIdle(pid int) (time.Duration, error) {
	const window, step = 500 * time.Millisecond, 5 * time.Millisecond
	since := monotonic()
	for monotonic()-since < window {
		time.Sleep(step)
		busy, err := isBusy(pid)
		if err != nil {
			return 0, err
		}
		if busy {
			since = monotonic()
		}
	}
	return since, nil
}

// isBusy reports whether a daemon has a child or an event to read.
func isBusy(pid int) (bool, error) {
	task := strconv.Itoa(pid)
	children, err := os.ReadFile(filepath.Join("/proc", task, "task", task, "children"))
	if err != nil {
		return false, err // it has died, or the kernel has no CONFIG_PROC_CHILDREN
	}
	_, queued := ueventSocket(pid)
	return queued || len(children) > 0, nil
}

func listens(pid int) bool {
	found, _ := ueventSocket(pid)
	return found
}

// ueventSocket looks for a process in /proc/net/netlink.
func ueventSocket(pid int) (found, queued bool) {
	text, err := os.ReadFile("/proc/net/netlink")
	if err != nil {
		return false, false
	}
	return findSocket(string(text), pid)
}

// findSocket reports whether the process has a socket of NETLINK_KOBJECT_UEVENT in a text of /proc/net/netlink, and whether
// something is queued there. The columns are sk, Eth, Pid, Groups, Rmem.
func findSocket(text string, pid int) (found, queued bool) {
	const kobjectUevent = "15"
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) > 4 && f[1] == kobjectUevent && f[2] == strconv.Itoa(pid) {
			return true, f[4] != "0"
		}
	}
	return false, false
}
