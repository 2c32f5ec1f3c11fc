package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"hapax/tests/internal/guest"
)

// udevd does what systemd does at boot with systemd-udevd.service and systemd-udev-trigger.service, and waits until all
// devices have been handled.
func udevd() (guest.Coldplug, error) {
	if err := earlyMounts(); err != nil {
		return guest.Coldplug{}, err
	}
	if err := command("/lib/systemd/systemd-udevd", "--daemon"); err != nil {
		return guest.Coldplug{}, err
	}
	c := guest.Coldplug{Trigger: monotonic()}
	for _, args := range [][]string{
		{"trigger", "--type=subsystems", "--action=add"},
		{"trigger", "--type=devices", "--action=add"},
		{"settle", "--timeout=600"}, // far past the guest's own limit
	} {
		if err := command("/bin/udevadm", args...); err != nil {
			return c, err
		}
	}
	c.Settled = monotonic()
	return c, nil
}

// earlyMounts mounts what the kernel does not mount for an initramfs.
func earlyMounts() error {
	for _, m := range []struct{ fs, dir string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.fs, m.dir, m.fs, 0, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.fs, m.dir, err)
		}
	}
	return nil
}

// command runs a program to its end. What it prints is part of the error.
func command(path string, args ...string) error {
	cmd := exec.Command(path, args...)
	cmd.Env = []string{"PATH=/sbin:/bin:/usr/sbin:/usr/bin"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", path, strings.Join(args, " "), err, out)
	}
	return nil
}
