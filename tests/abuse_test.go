package tests

import (
	"context"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// TestAbuse does to a machine with 128 MiB what a bad program can do: /run is filled up, all memory is taken, the process table
// is filled by programs that fork for ever. The engine goes on through all but the last, and in the end the power button works.
func TestAbuse(t *testing.T) {
	l, k := needFirst(t)
	image := shellImage(t, l, k, "--mode", "custom", "--modules", "button,pvpanic_mmio,dummy")
	v, c := stays(t, l, qemu.Machine{Kernel: k.Vmlinuz, Initrd: image, MemoryMiB: 128, CPUs: 2, Append: judged, Extra: pvpanic})
	ctl := func(args string) string {
		t.Helper()
		e := ask[guest.Ended](t, c, guest.Exec, "/sbin/hapaxctl "+args)
		if e.Code != 0 {
			t.Errorf("hapaxctl %s: exit code %d: %s", args, e.Code, e.Output)
		}
		return e.Output
	}
	first := pidOf(t, c, "hapax-engine")

	// E9: nothing more fits into /run. A module is loaded all the same.
	if filled := ask[int64](t, c, guest.Fill, "/run/full"); filled == 0 {
		t.Error("/run takes nothing")
	}
	if out := ctl("load dummy"); out != "dummy live\n" {
		t.Errorf("with a full /run, hapaxctl load dummy says %q", out)
	}
	ask[guest.Ended](t, c, guest.Exec, "/sbin/hapaxctl status")

	// E8: what eats the memory goes, and not the engine.
	if how := ask[string](t, c, guest.Eat, ""); how != "signal: killed" {
		t.Errorf("what eats all memory ended by %q, want the OOM killer", how)
	}
	ctl("settle")
	if now := pidOf(t, c, "hapax-engine"); now != first {
		t.Errorf("the engine is process %d, and was %d before the memory was eaten", now, first)
	}
	log := ask[string](t, c, guest.Dmesg, "")
	if !strings.Contains(log, "Out of memory: Killed process") {
		t.Error("the kernel's log tells of no process killed for want of memory")
	}

	// E5: PID 1 needs no process to end the machine.
	if err := v.Send(guest.Bomb); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second)
	if err := v.QMP.PowerDown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended(t, v, "guest-shutdown")
}

// pidOf returns the pid of the process of that name.
func pidOf(t *testing.T, c guest.Client, name string) int {
	t.Helper()
	pids := ask[[]int](t, c, guest.Pids, name)
	if len(pids) != 1 {
		t.Fatalf("processes %s: %v, want one", name, pids)
	}
	return pids[0]
}

// TestH1NoConsole boots a root with a console= that does not exist, so that PID 1 starts without standard files. The init of the
// root, which finds no commands, switches the power off.
func TestH1NoConsole(t *testing.T) {
	need.Time(t)
	l, k := needFirst(t)
	image, err := l.HapaxImage(t.Context(), k, "--mode", "universal")
	if err != nil {
		t.Fatal(err)
	}
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz, Initrd: image, Disks: []string{rootDisk(t, l, nil).File}, Extra: pvpanic,
		Append: strings.ReplaceAll(judged, "ttyS0", "hvc9") + "hapax.report=console root=UUID=" + rootUUID,
	}})
	ended(t, v, "guest-shutdown")
}

// TestH2StoppedConsole stops the console's output, as ctrl-S does, before PID 1 has said anything on it. The boot goes on to the
// root; its init is heard when the output goes on.
func TestH2StoppedConsole(t *testing.T) {
	need.Time(t)
	l, k := needFirst(t)
	image, err := l.HapaxImage(t.Context(), k, "--mode", "universal")
	if err != nil {
		t.Fatal(err)
	}
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz, Initrd: image, Disks: []string{rootDisk(t, l, nil).File}, Extra: pvpanic,
		Append: judged + "rootdelay=3 hapax.report=console root=UUID=" + rootUUID,
	}})
	// The terminal is open from when the kernel starts init, and only then hears of it.
	if _, err := v.WaitLine(time.Minute, "as init process"); err != nil {
		t.Fatal(err)
	}
	const xoff, xon = "\x13", "\x11"
	if err := v.Send(xoff); err != nil {
		t.Fatal(err)
	}
	// The kernel's own messages do not heed it. This one comes when it executes /sbin/init.
	if _, err := v.WaitLine(time.Minute, "tomoyo-init does not exist"); err != nil {
		t.Fatal(err)
	}
	if len(reports(v)) > 0 {
		t.Fatal("the console is not stopped")
	}
	if err := v.Send(xon); err != nil {
		t.Fatal(err)
	}
	if err := guest.Await(v, time.Minute, "start", nil); err != nil {
		t.Fatal(err)
	}
	if len(reports(v)) != 1 {
		t.Error("the report was not kept for a console that goes on")
	}
	noPanic(t, v)
}

// reports returns the lines of the console with a report.
func reports(v *vm.VM) (lines []string) {
	for _, line := range v.Lines() {
		if strings.Contains(line.Text, "hapax-report:") {
			lines = append(lines, line.Text)
		}
	}
	return lines
}

// TestE10Clocks boots roots on machines whose clock is 50 years and more wrong. No time-out looks at that clock.
func TestE10Clocks(t *testing.T) {
	need.Time(t)
	l, k := needFirst(t)
	image, err := l.HapaxImage(t.Context(), k, "--mode", "universal")
	if err != nil {
		t.Fatal(err)
	}
	for _, base := range []string{"1970-01-01T00:00:00", "2100-01-01T00:00:00"} {
		t.Run(base[:4], func(t *testing.T) {
			t.Parallel()
			v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
				Kernel: k.Vmlinuz, Initrd: image, Disks: []string{rootDisk(t, l, nil).File}, Append: judged + "root=UUID=" + rootUUID,
				Extra: append([]string{"-rtc", "base=" + base}, pvpanic...),
			}})
			if err := guest.Await(v, time.Minute, "start", nil); err != nil {
				t.Fatal(err)
			}
			noPanic(t, v)
		})
	}
}

// TestE11Watchdog lets PID 1 hang under a watchdog, which resets the machine then and not before. The clock counts instructions
// and does not wait, so an hour in which nothing happens takes seconds.
func TestE11Watchdog(t *testing.T) {
	need.Time(t)
	l := needQEMU(t)
	k := kernel(t, l, lab.Kernels()[2]) // the cloud kernels have no i6300esb
	faulty, err := l.FaultInit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	image := shellImage(t, l, k, "--mode", "custom", "--modules", "i6300esb,pvpanic_mmio", "--init", faulty)
	for name, fault := range map[string]string{"alive": "", "hung": " hapax.fault=hang@feed:20"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, c := stays(t, l, qemu.Machine{
				Kernel: k.Vmlinuz, Initrd: image, Icount: true, Append: judged + "hapax.watchdog=12" + fault,
				Extra: append([]string{"-device", "i6300esb", "-watchdog-action", "none"}, pvpanic...),
			})
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, err := v.QMP.WaitEvent(ctx, 0, "WATCHDOG", nil)
			clock := ask[guest.Clock](t, c, guest.Clocks, "")
			if bitten := err == nil; bitten != (fault != "") {
				t.Errorf("the watchdog has bitten: %v, at %v of the guest's time", bitten, clock.Monotonic)
			}
			// It is fed every 4 s, so the twentieth time is at 76 s at the earliest.
			if err == nil && clock.Monotonic < 76*time.Second {
				t.Errorf("the watchdog has bitten at %v", clock.Monotonic)
			}
			if fault == "" && clock.Monotonic < 2*time.Minute {
				t.Errorf("only %v of the guest's time have passed", clock.Monotonic)
			}
			t.Logf("%s: at %v of the guest's time", name, clock.Monotonic)
		})
	}
}
