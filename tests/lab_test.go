package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// What all QEMU tests of the package share. Each is made by the first test that needs it.
var (
	openLab = sync.OnceValues(func() (*lab.Lab, error) {
		return lab.Open(func(format string, args ...any) { fmt.Fprintf(os.Stderr, "lab: "+format+"\n", args...) })
	})
)

// bootArgs are on each guest's command line. panic= is not: it would end the rescue shell, too, and package vm sees a
// panic on the console.
const bootArgs = "console=ttyS0 oops=panic no_timer_check mitigations=off nowatchdog "

// needQEMU leaves a test to make test when only the unit tier runs, and returns the lab otherwise. As many of its callers run
// at a time as the host has cores: an emulated guest keeps one of them busy, or waits for a time-out.
func needQEMU(t *testing.T) *lab.Lab {
	t.Helper()
	need.Long(t)
	t.Parallel()
	l, err := openLab()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// eachKernel runs a test once for each kernel of the lab.
func eachKernel(t *testing.T, test func(t *testing.T, l *lab.Lab, spec lab.KernelSpec, k debian.Kernel)) {
	l := needQEMU(t)
	for _, spec := range lab.Kernels() {
		t.Run(spec.Name, func(t *testing.T) {
			t.Parallel()
			test(t, l, spec, kernel(t, l, spec))
		})
	}
}

func kernel(t *testing.T, l *lab.Lab, spec lab.KernelSpec) debian.Kernel {
	t.Helper()
	k, err := l.Kernel(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// firmware gives a machine UEFI firmware in place of a kernel.
func firmware(t *testing.T, l *lab.Lab, m qemu.Machine) qemu.Machine {
	t.Helper()
	efi, err := l.EFI(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return withFirmware(t, m, efi.Code, efi.Vars)
}

// withFirmware gives a machine the firmware in the file code, and a copy of its variables.
func withFirmware(t testing.TB, m qemu.Machine, code, vars string) qemu.Machine {
	t.Helper()
	content, err := os.ReadFile(vars)
	if err != nil {
		t.Fatal(err)
	}
	m.Firmware, m.Variables = code, filepath.Join(t.TempDir(), "vars.fd")
	if err := os.WriteFile(m.Variables, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return m
}

// shellImage returns an image of hapax whose shell is the guest program.
func shellImage(t *testing.T, l *lab.Lab, k debian.Kernel, flags ...string) string {
	t.Helper()
	program, err := l.Guest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	image, err := l.HapaxImage(t.Context(), k, append(flags, "--shell", program)...)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// client waits until the program inside the guest takes commands.
func client(t *testing.T, v *vm.VM, timeout time.Duration) guest.Client {
	t.Helper()
	if _, err := v.WaitLine(timeout, guest.Ready); err != nil {
		t.Fatal(err)
	}
	return guest.Client{Console: v}
}

// ask gives a command to the guest and returns its answer.
func ask[T any](t *testing.T, c guest.Client, command, argument string) T {
	t.Helper()
	var result T
	if err := c.Ask(command, argument, &result); err != nil {
		t.Fatal(err)
	}
	return result
}
