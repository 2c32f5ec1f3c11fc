package tests

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// debugfs changes a file system behind its own back.
func debugfs(t *testing.T, disk, command string) {
	t.Helper()
	tool(t, "debugfs", "-w", "-R", command, disk)
}

// TestFsck has the distribution's own checker in the image, with the libraries that it needs, and roots that need it.
func TestFsck(t *testing.T) {
	need.Time(t)
	l, k := needFirst(t)
	image, err := l.HapaxImage(t.Context(), k, "--mode", "universal", "--program", "/sbin/fsck.ext4")
	if err != nil {
		t.Fatal(err)
	}
	const complains = "mounting fs with errors"
	for _, tt := range []struct {
		name, args, damage string
		console            string // what the checker says
		log                bool   // whether the kernel finds errors on mount
		checked            bool   // whether the real root is told that the check is done
	}{
		{"clean", "", "", "hapax-test: clean, ", false, true},
		{"errors", "", "set_super_value state 3", "hapax-test contains a file system with errors, check forced", false, true},
		{"skip", "fsck.mode=skip", "set_super_value state 3", "", true, false},
		{"force", "fsck.mode=force", "", "hapax-test: 1", false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			disk := rootDisk(t, l, nil).File
			if tt.damage != "" {
				debugfs(t, disk, tt.damage)
			}
			v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
				Kernel: k.Vmlinuz, Initrd: image, Disks: []string{disk},
				Append: bootArgs + "rw root=UUID=" + rootUUID + " " + tt.args, // the kernel complains of none that it only reads
			}})
			if tt.console != "" {
				if _, err := v.WaitLine(time.Minute, tt.console); err != nil {
					t.Error(err)
				}
			}
			var start guest.Start
			if err := guest.Await(v, time.Minute, "start", &start); err != nil {
				t.Fatal(err)
			}
			c := client(t, v, time.Minute)
			if log := strings.Contains(ask[string](t, c, guest.Dmesg, ""), complains); log != tt.log {
				t.Errorf("the kernel says %q: %v, want %v", complains, log, tt.log)
			}
			var names []string
			err := c.Ask(guest.List, "/run/initramfs", &names)
			if checked := fmt.Sprint(names) == "[fsck-root]"; err != nil || checked != tt.checked {
				t.Errorf("/run/initramfs holds %q (%v), want fsck-root: %v", names, err, tt.checked)
			}
		})
	}
	t.Run("beyond repair", func(t *testing.T) {
		disk := rootDisk(t, l, nil).File
		debugfs(t, disk, "set_super_value state 3")
		debugfs(t, disk, "clri <2>")
		v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
			Kernel: k.Vmlinuz, Initrd: image, Disks: []string{disk},
			Append: bootArgs + "root=UUID=" + rootUUID + " rd.emergency=poweroff",
		}})
		if _, err := v.WaitLine(time.Minute, "/sbin/fsck.ext4 has left errors on /dev/vda; repair it by hand"); err != nil {
			t.Fatal(err)
		}
		if err := v.WaitExit(time.Minute); err != nil {
			t.Errorf("rd.emergency=poweroff: %v", err)
		}
	})
}
