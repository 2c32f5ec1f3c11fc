package tests

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// A plug is a device that is added to a running guest.
type plug struct {
	driver  string // of QEMU
	bound   string // the guest's driver for it
	module  string // that has to be loaded for it
	network bool   // its backend is a network, not a disk
}

// TestHotplug adds devices whose drivers no device needed so far. Each is bound within a second of the guest's clock,
// by modules that are inserted once. That clock counts instructions, so a busy host does not change it.
func TestHotplug(t *testing.T) {
	eachKernel(t, func(t *testing.T, l *lab.Lab, spec lab.KernelSpec, k debian.Kernel) {
		flags := []string{"--mode", "universal"}
		plugs := []plug{{driver: "virtio-blk-pci", bound: "virtio_blk", module: "virtio_blk"}}
		if spec.E1000e {
			plugs = append(plugs, plug{driver: "e1000e", bound: "e1000e", module: "e1000e", network: true})
			flags = append(flags, "--modules", "e1000e")
		} else {
			plugs = append(plugs, plug{driver: "virtio-net-pci", bound: "virtio_net", module: "virtio_net", network: true})
		}
		m := qemu.Machine{
			Kernel: k.Vmlinuz, CPUs: 1, Icount: true, Initrd: shellImage(t, l, k, flags...),
			Append: bootArgs + "hapax.report=console " + guest.TraceArgs,
			Extra:  []string{"-netdev", "user,id=net,restrict=on", "-blockdev", nullDisk("disk")},
		}
		v := vm.Run(t, l.Logs(), vm.Config{Machine: m})
		c := client(t, v, 3*time.Minute) // the clock counts instructions: a busy host takes its time
		before := look(t, c)
		for i, p := range plugs {
			for _, m := range before.modules {
				if m.Name == p.module {
					t.Fatalf("%s is loaded before its device is there", p.module)
				}
			}
			took := p.into(t, v, c, i)
			if took > time.Second {
				t.Errorf("%s was bound after %v of guest time, want at most a second", p.driver, took)
			}
			t.Logf("%s: %s bound to %s %.3f s after its uevent", k.Release, p.driver, p.bound, took.Seconds())
		}
		got := look(t, c)
		checkUneventful(t, ask[report](t, c, guest.Report, ""), got)
		if more := len(got.modules) - len(before.modules); got.trace.Finit.Total-before.trace.Finit.Total != more {
			t.Errorf("%d finit_module calls for %d new modules", got.trace.Finit.Total-before.trace.Finit.Total, more)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := v.QMP.RemoveDevice(ctx, "plug0"); err != nil {
			t.Errorf("the guest keeps its disk: %v", err)
		}
	})
}

// into plugs the device into empty port i and returns the guest's time from the first uevent of its PCI function until the
// driver was bound, as the guest received them.
func (p plug) into(t *testing.T, v *vm.VM, c guest.Client, i int) time.Duration {
	t.Helper()
	mark := len(ask[[]guest.Uevent](t, c, guest.Uevents, "0"))
	device := map[string]any{"driver": p.driver, "id": "plug" + strconv.Itoa(i), "bus": qemu.HotplugPort(i)}
	if p.network {
		device["netdev"] = "net"
	} else {
		device["drive"] = "disk"
	}
	if err := v.QMP.AddDevice(t.Context(), device); err != nil {
		t.Fatal(err)
	}
	const patience = 100 // looks at the guest; each takes some of its time
	for range patience {
		events := ask[[]guest.Uevent](t, c, guest.Uevents, strconv.Itoa(mark))
		if took, ok := untilBound(events, p.bound); ok {
			return took
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s: no device was bound to %s", p.driver, p.bound)
	return 0
}

// untilBound returns the time from the event that added a PCI function to the one that bound it, or a device below it, to
// the driver.
func untilBound(events []guest.Uevent, driver string) (time.Duration, bool) {
	for _, e := range events {
		if e.Action != "bind" || e.Driver != driver {
			continue
		}
		for _, add := range events {
			if add.Action == "add" && add.Subsystem == "pci" && strings.HasPrefix(e.DevPath+"/", add.DevPath+"/") {
				return e.At - add.At, true
			}
		}
	}
	return 0, false
}
