package tests

import (
	"strings"
	"testing"
	"time"

	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// TestDebianExitrd boots a Debian with systemd whose root is an overlay, and has it switch the power off. In the end its
// systemd-shutdown goes back into the initramfs, which unmounts the root and what lies below it.
func TestDebianExitrd(t *testing.T) {
	need.Time(t)
	l := needQEMU(t)
	c := namedCase(t, "systemd-sysv,squashfs,virtio-blk,dev")
	k := c.kernel(t, l)
	image, err := l.HapaxImage(t.Context(), k, "--mode", "universal")
	if err != nil {
		t.Fatal(err)
	}
	m := c.machine(t, l, k, image, c.arguments(c.hapaxRoot()))
	v := vm.Run(t, l.Logs(), vm.Config{Machine: m, Limit: 12 * time.Minute})
	loginTo(t, v)
	if err := v.Send("dmesg -n 8; systemctl poweroff"); err != nil {
		t.Fatal(err)
	}
	if _, err := v.WaitLine(3*time.Minute, "hapax: back in the initramfs: poweroff"); err != nil {
		t.Fatal(err)
	}
	ended(t, v, "guest-shutdown")
	for _, line := range v.Lines() {
		if _, complaint, ok := strings.Cut(line.Text, "hapax: unmount "); ok {
			t.Errorf("not unmounted: %s", complaint)
		}
	}
}
