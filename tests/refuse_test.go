package tests

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// needFirst returns the lab and its first kernel: what is refused does not depend on the kernel.
func needFirst(t *testing.T) (*lab.Lab, debian.Kernel) {
	t.Helper()
	l := needQEMU(t)
	return l, kernel(t, l, lab.Kernels()[0])
}

// rescued waits for the shell that a boot ends in when it cannot go on, and checks that all texts were on the console
// before it.
func rescued(t *testing.T, v *vm.VM, texts ...string) guest.Client {
	t.Helper()
	c := client(t, v, time.Minute)
	var shown strings.Builder
	for _, line := range v.Lines() {
		shown.WriteString(line.Text + "\n")
	}
	for _, text := range texts {
		if !strings.Contains(shown.String(), text) {
			t.Errorf("the console does not show %q", text)
		}
	}
	// Nothing may have been deleted from the initramfs.
	if names := ask[[]string](t, c, guest.List, "/"); !slices.Contains(names, "init") {
		t.Errorf("the initramfs holds %q, want init among them", names)
	}
	return c
}

// TestForeignKernel boots an image under a kernel of another release than its modules'.
func TestForeignKernel(t *testing.T) {
	l, k := needFirst(t)
	other := kernel(t, l, lab.Kernels()[1])
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz, Initrd: shellImage(t, l, other, "--mode", "universal"), Append: bootArgs,
	}})
	c := rescued(t, v, k.Release, other.Release)
	if got := ask[[]guest.Module](t, c, guest.Modules, ""); len(got) != 0 {
		t.Errorf("modules %v were loaded into another kernel", got)
	}
	t.Logf("an image for %s under %s: both named, rescue shell", other.Release, k.Release)
}

// TestRootMissing waits for a root that never comes, beside a disk that is another one and a card without a driver.
func TestRootMissing(t *testing.T) {
	l, k := needFirst(t)
	const absent = "00000000-dead-4bad-8000-000000000000"
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz, Initrd: shellImage(t, l, k, "--mode", "universal"), Disks: []string{rootDisk(t, l, nil).File},
		Append: bootArgs + "root=UUID=" + absent + " hapax.timeout=3",
		Extra:  []string{"-device", "e1000e"}, // the cloud kernel has no driver for it
	}})
	const e1000e = "pci:v00008086d000010D3"
	c := rescued(t, v, absent, rootUUID, e1000e) // nothing but the account of the disks holds its UUID
	if kept := ask[string](t, c, guest.Cat, "/run/hapax/rescue.txt"); !strings.Contains(kept, rootUUID) || !strings.Contains(kept, e1000e) {
		t.Errorf("/run/hapax/rescue.txt does not say what the console does: %q", kept)
	}
	now := ask[guest.Clock](t, c, guest.Clocks, "")
	if r := ask[report](t, c, guest.Report, ""); now.Boottime.Seconds()*1000 < r.Clock.Engine+3000 {
		t.Errorf("the shell was there at %v, less than hapax.timeout=3 after the engine's start at %v ms", now.Boottime, r.Clock.Engine)
	}
	t.Logf("root=UUID=%s: given up with the other disk and %s named, rescue shell at %.2f s", absent, e1000e, now.Boottime.Seconds())
}

// TestBadInit boots into roots whose init cannot be executed. That has to be noticed before the initramfs is given up.
func TestBadInit(t *testing.T) {
	tests := []struct {
		name string
		fill func(root string) error
		want string // on the console
	}{
		{"missing", func(string) error { return nil }, "/sbin/init"},
		{"not executable", func(root string) error {
			return os.WriteFile(filepath.Join(root, "sbin/init"), []byte("#!/bin/sh\n"), 0o644)
		}, "not executable"},
		{"interpreter missing", func(root string) error {
			return script(filepath.Join(root, "sbin/init"), "/bin/absent")
		}, "/bin/absent"},
	}
	l, k := needFirst(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
				Kernel: k.Vmlinuz, Initrd: shellImage(t, l, k, "--mode", "universal"), Disks: []string{rootDisk(t, l, tt.fill).File},
				Append: bootArgs + "root=UUID=" + rootUUID,
			}})
			rescued(t, v, tt.want)
			t.Logf("init %s: refused before the switch, rescue shell", tt.name)
		})
	}
}

// TestTruncatedModule cuts failover.ko in half. It fails once; net_failover and virtio_net, which need it, fail without a
// system call; the disk beside them gets its driver, and with root= the boot reaches its end.
func TestTruncatedModule(t *testing.T) {
	l, k := needFirst(t)
	m := qemu.Machine{
		Kernel: k.Vmlinuz, Disks: []string{rootDisk(t, l, nil).File}, Append: bootArgs + guest.TraceArgs,
		Extra: []string{"-netdev", "user,id=net0,restrict=on", "-device", "virtio-net-pci,netdev=net0"},
	}
	boot := func(name, args string) *vm.VM {
		m := m
		// The cut file comes in an archive behind the image, as a boot loader may pass one.
		base := shellImage(t, l, k, "--mode", "universal")
		m.Initrd, m.Append = filepath.Join(t.TempDir(), "truncated.img"), m.Append+args
		if err := lab.TruncateModule(m.Initrd, base, k, "failover"); err != nil {
			t.Fatal(err)
		}
		return vm.Run(t, l.Logs(), vm.Config{Name: name, Machine: m})
	}

	v := boot("settle", "")
	c := client(t, v, time.Minute)
	got, r := look(t, c), ask[report](t, c, guest.Report, "")
	checkOnce(t, r, got)
	for _, name := range []string{"failover", "net_failover", "virtio_net"} {
		if m := r.module(name); m.State != "failed" || (m.Begun != 0) != (name == "failover") {
			t.Errorf("report: %+v, want %s failed, by a system call only if it is failover", m, name)
		}
	}
	if r.Failed != 3 || r.Finit != r.Live+r.Refused+1 {
		t.Errorf("report: %d failed, %d calls, %d live, %d refused: want 3 failed by one call", r.Failed, r.Finit, r.Live, r.Refused)
	}
	if bound(got.devices)["virtio_blk"] != 1 {
		t.Error("virtio_blk, which needs none of them, is not bound")
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}

	var start guest.Start
	if err := guest.Await(boot("root", " root=UUID="+rootUUID), time.Minute, "start", &start); err != nil {
		t.Fatal(err)
	}
	t.Logf("half of failover.ko: %d failed by one call (%v), %s reached at %.2f s", r.Failed, got.trace.Finit.Results, start.Args[0], start.Clock.Seconds())
}
