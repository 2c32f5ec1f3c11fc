package tests

import (
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// TestBreak stops at each point of rd.break= in turn, looks around in the shell there, and goes on to the real root.
func TestBreak(t *testing.T) {
	l, k := needFirst(t)
	image, err := l.HapaxImage(t.Context(), k, "--mode", "universal", "--shell", "u-root")
	if err != nil {
		t.Fatal(err)
	}
	points := []string{"cmdline", "pre-mount", "mount", "pre-pivot"}
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz, CPUs: 2, Initrd: image, Disks: []string{rootDisk(t, l, nil).File},
		Append: bootArgs + "root=/dev/vda rd.break=" + strings.Join(points, ","),
	}})
	for _, point := range points {
		if _, err := v.WaitLine(time.Minute, "stopped at rd.break="+point); err != nil {
			t.Fatal(err)
		}
		rooted := point == "pre-pivot"
		answer := "no-root-yet"
		if rooted {
			answer = "root-is-mounted"
		}
		say(t, v, "if test -e /sysroot/sbin/init; then echo root-is-mount''ed; else echo no-root-y''et; fi", answer)
		if err := v.Send("exit"); err != nil {
			t.Fatal(err)
		}
	}
	var start guest.Start
	if err := guest.Await(v, time.Minute, "start", &start); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped at %s, /sbin/init at %.2f s", strings.Join(points, ", "), start.Clock.Seconds())
}

// TestEmergency boots without a root and without a shell: somebody who looks at the console knows what was awaited and what
// was there, and the machine does what rd.emergency= says.
func TestEmergency(t *testing.T) {
	l, k := needFirst(t)
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz, Initrd: shellImage(t, l, k, "--mode", "universal"), Disks: []string{rootDisk(t, l, nil).File},
		Append: bootArgs + "root=LABEL=absent hapax.timeout=4 rd.shell=0 rd.emergency=poweroff",
	}})
	for _, text := range []string{
		"hapax: waiting for root=LABEL=absent, 3 s of 4s",
		"rd.shell=0 forbids a shell",
		"root=LABEL=absent has not appeared within 4s",
		"ext4, UUID=" + rootUUID + ", LABEL=hapax-test",
		"not in this image; add it by hapax build --modules ",
	} {
		if _, err := v.WaitLine(time.Minute, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.WaitExit(time.Minute); err != nil {
		t.Errorf("rd.emergency=poweroff: %v", err)
	}
}

// TestPanicReboots boots without a root on a machine that nobody sits before: after the time of panic= it is started again,
// whether there is a shell or not.
func TestPanicReboots(t *testing.T) {
	need.Time(t)
	l, k := needFirst(t)
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz, Initrd: shellImage(t, l, k, "--mode", "universal"),
		Append: bootArgs + "root=LABEL=absent hapax.timeout=1 panic=2",
	}})
	for _, text := range []string{"root=LABEL=absent has not appeared within 1s", "rebooting in 2 s (panic=)"} {
		if _, err := v.WaitLine(time.Minute, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.WaitExit(time.Minute); err != nil { // QEMU takes a reboot for the end
		t.Errorf("panic=2: %v", err)
	}
}

// say types a command until the shell answers: what is typed before it reads is lost.
func say(t *testing.T, v *vm.VM, command, answer string) {
	t.Helper()
	for range 12 {
		if err := v.Send(command); err != nil {
			t.Fatal(err)
		}
		if _, err := v.WaitLine(5*time.Second, answer); err == nil {
			return
		}
	}
	t.Fatalf("the shell does not answer %q", command)
}
