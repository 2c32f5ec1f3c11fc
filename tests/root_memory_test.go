package tests

import (
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/vm"
)

// TestSmallMemory boots the universal image into a root on a machine of 128 MiB, where nothing may have to be killed.
func TestSmallMemory(t *testing.T) {
	l, k := needFirst(t)
	image, err := l.HapaxImage(t.Context(), k, "--mode", "universal")
	if err != nil {
		t.Fatal(err)
	}
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz, MemoryMiB: 128, Initrd: image, Disks: []string{rootDisk(t, l, nil).File},
		Append: bootArgs + "root=UUID=" + rootUUID,
	}})
	var start guest.Start
	if err := guest.Await(v, time.Minute, "start", &start); err != nil {
		t.Fatal(err)
	}
	c := client(t, v, time.Minute)
	if r := ask[report](t, c, guest.Report, ""); r.Failed != 0 || r.Restarts != 0 {
		t.Errorf("%d modules failed and the engine was started again %d times, want neither", r.Failed, r.Restarts)
	}
	if log := ask[string](t, c, guest.Dmesg, ""); strings.Contains(log, "Out of memory") || strings.Contains(log, "page allocation failure") {
		t.Error("there was too little memory")
	}
	memory := ask[string](t, c, guest.Cat, "/proc/meminfo")
	t.Logf("/sbin/init at %.2f s; %s", start.Clock.Seconds(), strings.Join(strings.Fields(strings.Join(strings.SplitN(memory, "\n", 4)[:3], " ")), " "))
}
