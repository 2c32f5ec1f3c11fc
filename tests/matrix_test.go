package tests

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// matrix returns the machine of the device matrix: what QEMU offers of the buses that the kernel has drivers for.
func matrix(spec lab.KernelSpec, k debian.Kernel) qemu.Machine {
	m := qemu.Machine{
		Kernel: k.Vmlinuz, CPUs: 8, MemoryMiB: 2048,
		Extra: []string{
			"-netdev", "user,id=net0,restrict=on", "-device", "virtio-net-pci,netdev=net0",
			"-blockdev", nullDisk("vd"), "-device", "virtio-blk-pci,drive=vd",
			"-blockdev", nullDisk("nv"), "-device", "nvme,drive=nv,serial=hapax",
		},
	}
	if spec.AHCI {
		m.Extra = append(m.Extra, "-blockdev", nullDisk("sa"), "-device", "ide-hd,bus=ide.0,drive=sa")
	}
	if spec.USB {
		m.Extra = append(m.Extra, "-device", "qemu-xhci,id=xhci",
			"-blockdev", nullDisk("us"), "-device", "usb-storage,bus=xhci.0,drive=us")
	}
	return m
}

// matrixDrivers returns the drivers that have to be bound on that machine.
func matrixDrivers(spec lab.KernelSpec) []string {
	drivers := []string{"virtio-pci", "virtio_net", "virtio_blk", "nvme"}
	if spec.AHCI {
		drivers = append(drivers, "ahci", "sd")
	}
	if spec.USB {
		drivers = append(drivers, "xhci_hcd", "usb-storage")
	}
	return drivers
}

// nullDisk returns the options of a block backend that reads as zeros and forgets what is written.
func nullDisk(name string) string {
	return "driver=null-co,read-zeroes=on,size=67108864,node-name=" + name
}

// TestMatrix boots the universal image: all drivers are bound, and each module was inserted once.
func TestMatrix(t *testing.T) {
	eachKernel(t, func(t *testing.T, l *lab.Lab, spec lab.KernelSpec, k debian.Kernel) {
		got, r := coldplugBy(t, l, matrix(spec, k), shellImage(t, l, k, "--mode", "universal"))
		checkUneventful(t, r, got)
		drivers := bound(got.devices)
		for _, d := range matrixDrivers(spec) {
			if drivers[d] == 0 {
				t.Errorf("no device is bound to %s", d)
			}
		}
		t.Logf("%s: %d requests, %d finit_module calls = %d live + %d refused, %d duplicates; settled %.2f s after the engine's start at %.2f s",
			k.Release, r.Requests, r.Finit, r.Live, r.Refused, r.Duplicates, (r.Clock.Settled-r.Clock.Engine)/1000, r.Clock.Engine/1000)
	})
}

// coldplugBy boots the machine with an image of hapax whose shell is the guest program, and returns what that made of it.
func coldplugBy(t *testing.T, l *lab.Lab, m qemu.Machine, image string) (coldplugged, report) {
	t.Helper()
	c := settledGuest(t, l, m, image)
	got := look(t, c)
	return got, ask[report](t, c, guest.Report, "")
}

// settledGuest boots the machine with an image of hapax whose shell is the guest program, and waits until that has the console.
func settledGuest(t *testing.T, l *lab.Lab, m qemu.Machine, image string) guest.Client {
	t.Helper()
	m.Initrd = image
	m.Append = bootArgs + "hapax.report=console " + guest.TraceArgs
	v := vm.Run(t, l.Logs(), vm.Config{Name: "hapax", Machine: m, Limit: 4 * time.Minute})
	if _, err := v.WaitLine(3*time.Minute, "hapax-report: {"); err != nil {
		t.Fatal(err)
	}
	return client(t, v, time.Minute)
}

// unlike names the modules that systemd-udevd's guest has and hapax's has not, with the reason.
var unlike = map[string]string{
	"sg": "a rule of Debian's udev loads it by name for each SCSI device (80-debian-compat.rules); no modalias asks for it",
}

// TestAllModules boots an image of all modules and compares with Debian's systemd-udevd, which gets the same machine and the
// same modules: the same modules are live, and the same devices are bound to the same drivers.
func TestAllModules(t *testing.T) {
	eachKernel(t, func(t *testing.T, l *lab.Lab, spec lab.KernelSpec, k debian.Kernel) {
		m := matrix(spec, k)
		image := shellImage(t, l, k, "--mode", "all", "--compression", "none")
		c := settledGuest(t, l, m, image)
		got, r := look(t, c), ask[report](t, c, guest.Report, "")
		if spec == lab.Kernels()[0] {
			checkFootprint(t, c)
		}
		want, times := oracle(t, l, k, m)
		checkUneventful(t, r, got)
		compare(t, "modules", names(want.modules), names(got.modules))
		compare(t, "drivers", counted(bound(want.devices)), counted(bound(got.devices)))
		t.Logf("%s: hapax %d finit_module calls for %d modules in %.2f s; udevd %d calls (%d EEXIST, %d EBUSY, %d by init_module) for %d modules in %.2f s",
			k.Release, r.Finit, r.Live, (r.Clock.Settled-r.Clock.Engine)/1000,
			want.trace.Finit.Total+want.trace.Init.Total, want.trace.Finit.Results["EEXIST"]+want.trace.Init.Results["EEXIST"],
			want.trace.Finit.Results["EBUSY"]+want.trace.Init.Results["EBUSY"], want.trace.Init.Total,
			len(want.modules), (times.Settled - times.Trigger).Seconds())
	})
}

// compare reports every difference that unlike does not explain, and logs those that it does.
func compare(t *testing.T, what string, want, got []string) {
	t.Helper()
	want = slices.DeleteFunc(want, func(name string) bool {
		reason := unlike[name]
		if reason == "" || slices.Contains(got, name) {
			return false
		}
		t.Logf("only under udevd: %s: %s", name, reason)
		return true
	})
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-udevd +hapax):\n%s", what, d)
	}
}

func names(modules []guest.Module) []string {
	all := make([]string, 0, len(modules))
	for _, m := range modules {
		all = append(all, m.Name)
	}
	slices.Sort(all)
	return all
}

func counted(n map[string]int) []string {
	all := make([]string, 0, len(n))
	for _, key := range slices.Sorted(maps.Keys(n)) {
		all = append(all, fmt.Sprintf("%s on %d devices", key, n[key]))
	}
	return all
}
