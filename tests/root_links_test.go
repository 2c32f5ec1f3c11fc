package tests

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// linkFolders are those below /dev/disk that hapax and systemd-udevd both make.
func linkFolders() []string {
	return []string{"by-id", "by-path", "by-uuid", "by-label", "by-partuuid", "by-partlabel", "by-diskseq"}
}

// linkMachine has disks whose names a careless program would trip over.
func linkMachine(t *testing.T, l *lab.Lab, kernel string) qemu.Machine {
	m := qemu.Machine{Kernel: kernel, Disks: []string{gptDisk(t, l)}, Extra: []string{"-device", "virtio-scsi-pci,id=scsi"}}
	for i := range 8 {
		m.Extra = append(m.Extra, "-blockdev", nullDisk(fmt.Sprint("s", i)),
			"-device", fmt.Sprintf("scsi-hd,bus=scsi.0,drive=s%d,serial=same%d,wwn=0x500000000000000%d", i, i/2, i))
	}
	for i, serial := range []string{"plain", "../../up", "a b  c", "x/y", "é%n$k"} {
		name := fmt.Sprint("n", i)
		m.Extra = append(m.Extra, "-blockdev", nullDisk(name), "-device", "nvme,drive="+name+",serial="+serial)
	}
	return m
}

// links returns the names of the links below /dev/disk, as soon as wanted says that they are all there.
func links(t *testing.T, c guest.Client, wanted func([]string) bool) []string {
	t.Helper()
	const patience = 50 // looks
	for i := 0; ; i++ {
		var all []string
		for _, folder := range linkFolders() {
			var names []string
			if err := c.Ask(guest.List, "/dev/disk/"+folder, &names); err != nil {
				continue // no such folder yet
			}
			for _, name := range names {
				all = append(all, folder+"/"+name)
			}
		}
		slices.Sort(all)
		if wanted(all) || i == patience {
			return all
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestDiskLinks compares the links of a running image with those that Debian's systemd-udevd makes on the same machine,
// then takes a disk away and looks whether its links go with it.
func TestDiskLinks(t *testing.T) {
	needTime(t)
	l, k := needFirst(t)
	m := linkMachine(t, l, k.Vmlinuz)

	udevd, err := l.UdevdImage(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	oracle := m
	oracle.Initrd, oracle.Append = udevd, bootArgs+"guest_role=udevd"
	v := vm.Run(t, l.Logs(), vm.Config{Name: "udevd", Machine: oracle, Limit: 4 * time.Minute})
	want := links(t, client(t, v, 3*time.Minute), func(all []string) bool { return len(all) > 0 })
	if err := v.Close(); err != nil {
		t.Error(err)
	}

	m.Initrd, m.Append = shellImage(t, l, k, "--mode", "universal"), bootArgs
	v = vm.Run(t, l.Logs(), vm.Config{Name: "hapax", Machine: m})
	c := client(t, v, time.Minute)
	if d := cmp.Diff(want, links(t, c, func(all []string) bool { return len(all) >= len(want) })); d != "" {
		t.Errorf("links (-udevd +hapax):\n%s", d)
	}

	if err := v.QMP.AddBlock(t.Context(), map[string]any{
		"driver": "null-co", "read-zeroes": true, "size": 64 << 20, "node-name": "late",
	}); err != nil {
		t.Fatal(err)
	}
	if err := v.QMP.AddDevice(t.Context(), map[string]any{
		"driver": "virtio-blk-pci", "id": "late", "drive": "late", "serial": "late", "bus": qemu.HotplugPort(0),
	}); err != nil {
		t.Fatal(err)
	}
	const late = "by-id/virtio-late"
	if all := links(t, c, func(all []string) bool { return slices.Contains(all, late) }); !slices.Contains(all, late) {
		t.Errorf("a disk that was plugged in has no link %s: %q", late, all)
	}
	if err := v.QMP.RemoveDevice(t.Context(), "late"); err != nil {
		t.Fatal(err)
	}
	if all := links(t, c, func(all []string) bool { return !slices.Contains(all, late) }); slices.Contains(all, late) {
		t.Errorf("the link %s has outlived its disk", late)
	}
	t.Logf("%d links, as systemd-udevd makes them", len(want))
}
