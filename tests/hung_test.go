package tests

import (
	"slices"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// TestB8HungModule boots a root beside a module whose init function never returns. The root is taken over at most 50 ms of the
// guest's clock after it is mounted, with what is left of the engine beside it until hapax.drain= has passed.
func TestB8HungModule(t *testing.T) {
	l, k := needFirst(t)
	dir, err := l.WithTestModules(t.Context(), k, t.Name(), []lab.TestModule{{Name: "hx_hung"}})
	if err != nil {
		t.Fatal(err)
	}
	k.ModulesDir = dir
	image, err := l.HapaxImage(t.Context(), k, "--mode", "universal", "--modules", "extra/", "--force-load", "hx_hung")
	if err != nil {
		t.Fatal(err)
	}
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		// Without Sleep, the clock would run ahead to the next timer whenever the host reads for the disk.
		Kernel: k.Vmlinuz, CPUs: 1, Icount: true, Sleep: true, Initrd: image, Disks: []string{rootDisk(t, l, nil).File},
		Append: judged + "hx_hung.hang=1 root=UUID=" + rootUUID,
		Extra:  pvpanic,
	}})
	var begun guest.Start
	if err := guest.Await(v, time.Minute, "start", &begun); err != nil {
		t.Fatal(err)
	}
	c := client(t, v, time.Minute)
	hung := guest.Module{Name: "hx_hung", State: "Loading"}
	if all := ask[[]guest.Module](t, c, guest.Modules, ""); !slices.Contains(all, hung) {
		t.Errorf("modules: %v; want hx_hung to be loading", all)
	}
	r := ask[report](t, c, guest.Report, "")
	took := begun.Clock - time.Duration(r.Clock.Mounted*float64(time.Millisecond))
	if took > 150*time.Millisecond {
		t.Errorf("/sbin/init was started %v after the root was mounted", took)
	}
	if delay := r.Clock.Handover - r.Clock.Mounted; delay > 50 {
		t.Errorf("the engine let go %.1f ms after the root was mounted, want at most 50", delay)
	}
	if log := ask[string](t, c, guest.Dmesg, ""); !strings.Contains(log, "hx_hung is still in its init function: the real root does not wait for it") {
		t.Error("the kernel's log does not tell that hx_hung is left to itself")
	}
	noPanic(t, v)
	t.Logf("root mounted at %.1f ms, let go %.1f ms later, /sbin/init after %v in all", r.Clock.Mounted, r.Clock.Handover-r.Clock.Mounted, took)
}
