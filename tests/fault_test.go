package tests

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// A faultPlace is a point on the engine's way at which a boot is to fail in one way.
type faultPlace struct{ kind, point string }

// faultPoints reads the points off the engine's source, so that none is forgotten.
func faultPoints(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../init/internal/engine/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var points []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`fault\.At\("([a-z]+)"\)`).FindAllSubmatch(text, -1) {
			points = append(points, string(m[1]))
		}
	}
	slices.Sort(points)
	if len(slices.Compact(slices.Clone(points))) != len(points) || len(points) < 20 {
		t.Fatalf("points %v: want 20 at least, each once", points)
	}
	return points
}

// TestF1Faults boots a root with an engine that is killed, panics or stops at a point of its way. The boot comes to its end all
// the same. make test tries two of these boots.
func TestF1Faults(t *testing.T) {
	l, k := needFirst(t)
	points := faultPoints(t)
	places := []faultPlace{{"panic", "mount"}, {"wedge", "walked"}}
	if need.Full() {
		places = nil
		for _, kind := range []string{"kill", "panic", "wedge"} {
			for _, point := range points {
				places = append(places, faultPlace{kind, point})
			}
		}
	}
	image, err := l.FaultImage(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	disk := rootDisk(t, l, nil).File
	for _, f := range places {
		t.Run(f.kind+"@"+f.point, func(t *testing.T) {
			t.Parallel()
			v := vm.Run(t, l.Logs(), vm.Config{Limit: 4 * time.Minute, Machine: qemu.Machine{
				Kernel: k.Vmlinuz, Initrd: image, CPUs: 1, Icount: true,
				// rootdelay= lets the engine settle before it leaves. The clock runs ahead where nothing happens.
				Append: judged + "rootdelay=1 root=UUID=" + rootUUID + " hapax.fault=" + f.kind + "@" + f.point,
				Extra: append([]string{
					"-blockdev", "driver=raw,node-name=root,read-only=on,file.driver=file,file.filename=" + disk,
					"-device", "virtio-blk-pci,drive=root",
				}, pvpanic...),
			}})
			if err := guest.Await(v, 3*time.Minute, "start", nil); err != nil {
				t.Fatal(err)
			}
			c := client(t, v, time.Minute)
			if log := ask[string](t, c, guest.Dmesg, ""); !strings.Contains(log, "hapax: fault "+f.kind+" at "+f.point+"\n") {
				t.Errorf("the engine has not come to the point %s", f.point)
			}
			noPanic(t, v)
		})
	}
}

// judged are kernel arguments under which whatever goes wrong with PID 1 or the kernel ends the guest.
const judged = bootArgs + "panic=-1 hung_task_panic=0 printk.devkmsg=on "

// pvpanic is the device that tells QEMU of a panic.
var pvpanic = []string{"-device", "pvpanic"}

// noPanic fails the test if the guest's kernel has told pvpanic of its death.
func noPanic(t *testing.T, v *vm.VM) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := v.QMP.WaitEvent(ctx, 0, "GUEST_PANICKED", nil); err == nil {
		t.Error("the guest's kernel has panicked")
	}
}
