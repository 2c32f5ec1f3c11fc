package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// TestResume hibernates a Debian to swap space and to a swap file, starts the machine anew, and is back where it was.
func TestResume(t *testing.T) {
	need.Time(t)
	l := needQEMU(t)
	// Debian's 6.1 never gets beyond "Preallocating image memory" on emulated processors, whoever started it.
	k := kernel(t, l, lab.Kernels()[1])
	image, err := l.HapaxImage(t.Context(), k, "--mode", "universal")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		setUp string // what the shell of the guest does to have swap space
		where func(t *testing.T, v *vm.VM) string
	}{
		{
			"partition", "mkswap /dev/vdb && swapon /dev/vdb",
			func(*testing.T, *vm.VM) string { return "resume=/dev/vdb" },
		},
		{
			"file", "fallocate -l 128M /swap && chmod 600 /swap && mkswap /swap && swapon /swap",
			func(t *testing.T, v *vm.VM) string {
				// The first extent: logical 0..n, then where it is in blocks of 4 KiB.
				line := shellLine(t, v, `echo offset $(filefrag -b4096 -v /swap | sed -n 's/^ *0: *0\.\. *[0-9]*: *\([0-9]*\)\.\..*/\1/p').`, `offset (\d+)\.`)
				// The kernel has to know where the file is before it writes, too: systemctl hibernate tells it as well.
				shellLine(t, v, "echo "+line[1]+" > /sys/power/resume_offset && echo $(cat /sys/block/vda/dev) > /sys/power/resume; echo tol''d", "told")
				return fmt.Sprintf("resume=UUID=%s resume_offset=%s", lab.DebianUUID, line[1])
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := resumeMachine(t, l)
			m.Kernel, m.Initrd = k.Vmlinuz, image
			root := bootArgs + "rw root=UUID=" + lab.DebianUUID + " "
			m.Append = root
			v := vm.Run(t, l.Logs(), vm.Config{Name: "before", Machine: m, Limit: 10 * time.Minute})
			loginTo(t, v)
			shellLine(t, v, tt.setUp+" && kept=by-memory && echo swap-is-o''n", "swap-is-on")
			id := bootID(t, v)
			m.Append = root + tt.where(t, v)
			// Shrinking memory to the size that the kernel has in mind for an image sometimes does not end on emulated processors.
			shellLine(t, v, "dmesg -n 8; sync; echo 3 > /proc/sys/vm/drop_caches; echo 200000000 > /sys/power/image_size; echo read''y", "ready")
			if err := v.Send("echo shutdown > /sys/power/disk; echo disk > /sys/power/state; echo awake, kept $kept."); err != nil {
				t.Fatal(err)
			}
			if err := v.WaitExit(2 * time.Minute); err != nil {
				t.Fatalf("the guest has not gone to sleep: %v", err)
			}

			v = vm.Run(t, l.Logs(), vm.Config{Name: "after", Machine: m, Limit: 10 * time.Minute})
			if _, err := v.WaitLine(2*time.Minute, "awake, kept by-memory."); err != nil {
				t.Fatal(err)
			}
			if got := bootID(t, v); got != id {
				t.Errorf("boot_id %s, want that of before, %s", got, id)
			}
		})
	}
}

// resumeMachine has a Debian on vda, and vdb for swap space. Both can be written, and stay when the machine ends.
func resumeMachine(t *testing.T, l *lab.Lab) qemu.Machine {
	t.Helper()
	root, err := l.DebianRoot(t.Context(), "sysvinit-core", lab.DebianFileSystems()[0])
	if err != nil {
		t.Fatal(err)
	}
	disk, swap := filepath.Join(t.TempDir(), "root"), filepath.Join(t.TempDir(), "swap")
	tool(t, "cp", "--sparse=always", root, disk)
	if err := os.WriteFile(swap, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(swap, 128<<20); err != nil {
		t.Fatal(err)
	}
	return qemu.Machine{MemoryMiB: 512, Disks: []string{disk, swap}}
}

// bootID asks for the number that each boot has anew.
func bootID(t *testing.T, v *vm.VM) string {
	t.Helper()
	return shellLine(t, v, "echo boot $(cat /proc/sys/kernel/random/boot_id).", `boot ([0-9a-f-]+)\.`)[1]
}

// shellLine gives a command to the shell of the guest and waits for what it prints, which the command itself must not look
// like: the terminal shows that, too.
func shellLine(t *testing.T, v *vm.VM, command, answer string) []string {
	t.Helper()
	if err := v.Send(command); err != nil {
		t.Fatal(err)
	}
	line, err := v.WaitMatch(time.Minute, regexp.MustCompile(answer))
	if err != nil {
		t.Fatal(err)
	}
	return line
}
