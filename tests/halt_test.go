package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// An exit is a way to end a machine that stays in its initramfs.
type exit struct {
	name   string
	do     func(t *testing.T, v *vm.VM, c guest.Client)
	reason string // of QEMU's SHUTDOWN event
}

func exits() []exit {
	send := func(command, argument string) func(*testing.T, *vm.VM, guest.Client) {
		return func(t *testing.T, v *vm.VM, _ guest.Client) {
			t.Helper()
			if err := v.Send(command + " " + argument); err != nil { // there need not be an answer
				t.Fatal(err)
			}
		}
	}
	keys := func(times int) func(*testing.T, *vm.VM, guest.Client) {
		return func(t *testing.T, v *vm.VM, _ guest.Client) {
			t.Helper()
			for range times {
				ctrlAltDel(t, v)
			}
		}
	}
	const down, reset = "guest-shutdown", "guest-reset"
	return []exit{
		{"E3 power button", func(t *testing.T, v *vm.VM, _ guest.Client) {
			t.Helper()
			if err := v.QMP.PowerDown(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, down},
		{"E2 ctrl-alt-del", keys(1), reset},
		{"E2 ctrl-alt-del seven times", keys(7), reset},
		{"E3 SIGPWR", send(guest.Kill, "1 30"), down},
		{"E1 SIGRTMIN+4", send(guest.Kill, "1 38"), down},
		{"E3 poweroff", send(guest.Exec, "/sbin/poweroff"), down},
		{"E3 reboot", send(guest.Exec, "/sbin/reboot"), reset},
		{"E3 reboot -f", send(guest.Exec, "/sbin/reboot -f"), reset},
		{"E3 halt -p", send(guest.Exec, "/sbin/halt -p"), down},
		{"E3 sysrq, the control", send(guest.Write, "/proc/sysrq-trigger o"), down},
	}
}

// ctrlAltDel presses the three keys once.
func ctrlAltDel(t *testing.T, v *vm.VM) {
	t.Helper()
	var keys []map[string]string
	for _, name := range []string{"ctrl", "alt", "delete"} {
		keys = append(keys, map[string]string{"type": "qcode", "data": name})
	}
	if err := v.QMP.Execute(t.Context(), "send-key", map[string]any{"keys": keys, "hold-time": 20}, nil); err != nil {
		t.Fatal(err)
	}
}

// stays boots a machine that has no root, and waits until its shell, the guest program, takes commands.
func stays(t *testing.T, l *lab.Lab, m qemu.Machine) (*vm.VM, guest.Client) {
	t.Helper()
	v := vm.Run(t, l.Logs(), vm.Config{Machine: m})
	return v, client(t, v, time.Minute)
}

// TestShutdown ends a machine that stays in its initramfs in every way there is. The kernel does what was asked for, and PID 1
// does not die of it. In make test TestAbuse presses the power button.
func TestShutdown(t *testing.T) {
	need.Time(t)
	l, k := needFirst(t)
	image := shellImage(t, l, k, "--mode", "universal", "--modules", "pvpanic_mmio")
	for _, tt := range exits() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, c := stays(t, l, qemu.Machine{Kernel: k.Vmlinuz, Initrd: image, Append: judged, Extra: pvpanic})
			if got := ask[[]string](t, c, guest.List, "/sbin"); !strings.Contains(fmt.Sprint(got), "poweroff") || !strings.Contains(fmt.Sprint(got), "reboot") {
				t.Errorf("/sbin has %v: the kernel's helpers poweroff and reboot are missing", got)
			}
			tt.do(t, v, c)
			ended(t, v, tt.reason)
			var console strings.Builder
			for _, line := range v.Lines() {
				console.WriteString(line.Text + "\n")
			}
			// The guest program has turned the kernel's own messages off.
			if strings.Contains(console.String(), "Attempted to kill init") {
				t.Error("PID 1 has died")
			}
		})
	}
}

// ended waits until the guest has shut down or reset for that reason, and QEMU with it.
func ended(t *testing.T, v *vm.VM, reason string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	e, err := v.QMP.WaitEvent(ctx, 0, "SHUTDOWN", nil)
	if err != nil {
		t.Fatal(err)
	}
	var data struct {
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(e.Data, &data); err != nil {
		t.Fatal(err)
	}
	if data.Reason != reason {
		t.Errorf("the guest has ended by %s, want %s", data.Reason, reason)
	}
	if err := v.WaitExit(time.Minute); err != nil {
		t.Error(err)
	}
	noPanic(t, v)
}

// TestPanicIsSeen lets a kernel panic, so that it is known what noPanic looks for.
func TestPanicIsSeen(t *testing.T) {
	need.Time(t)
	l, k := needFirst(t)
	image := shellImage(t, l, k, "--mode", "custom", "--modules", "pvpanic_mmio")
	v := vm.Run(t, l.Logs(), vm.Config{Panics: true, Machine: qemu.Machine{
		Kernel: k.Vmlinuz, Initrd: image, Append: judged, Extra: pvpanic,
	}})
	client(t, v, time.Minute)
	if err := v.Send(guest.Write + " /proc/sysrq-trigger c"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if _, err := v.QMP.WaitEvent(ctx, 0, "GUEST_PANICKED", nil); err != nil {
		t.Error(err)
	}
}
