package tests

import (
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// coldplugged is what a machine looks like after all its devices have been handled.
type coldplugged struct {
	modules []guest.Module
	devices []guest.Device
	trace   guest.Trace
}

// look waits until the guest is quiet and takes stock.
func look(t *testing.T, c guest.Client) coldplugged {
	t.Helper()
	ask[any](t, c, guest.Quiet, "")
	return coldplugged{
		modules: ask[[]guest.Module](t, c, guest.Modules, ""),
		devices: ask[[]guest.Device](t, c, guest.Drivers, ""),
		trace:   ask[guest.Trace](t, c, guest.Finit, ""),
	}
}

// oracle boots the machine with Debian's systemd-udevd as its coldplugger and returns what that made of it.
func oracle(t *testing.T, l *lab.Lab, k debian.Kernel, m qemu.Machine) (coldplugged, guest.Coldplug) {
	t.Helper()
	image, err := l.UdevdImage(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	m.Initrd, m.Append = image, bootArgs+"guest_role=udevd "+guest.TraceArgs
	v := vm.Run(t, l.Logs(), vm.Config{Name: "udevd", Machine: m, Limit: 4 * time.Minute})
	var times guest.Coldplug
	if err := guest.Await(v, 3*time.Minute, "udevd", &times); err != nil {
		t.Fatal(err)
	}
	got := look(t, client(t, v, time.Minute))
	// Its host time is better spent on the guest that comes next.
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	return got, times
}
