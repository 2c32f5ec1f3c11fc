package tests

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// groups is the group file of both images: those of Debian's base-passwd and udev that own device files, but for kmem.
const groups = "root:x:0:\ntty:x:5:\ndisk:x:6:\nlp:x:7:\ndialout:x:20:\ncdrom:x:24:\ntape:x:26:\naudio:x:29:\n" +
	"video:x:44:\ninput:x:101:\nsgx:x:102:\nkvm:x:103:\nrender:x:104:\n"

// A devView is what a device manager has made of /dev.
type devView struct {
	Links  []string          // below disk and mapper
	Alike  []string          // the links that lead to one device, in one string
	Owners map[string]string // permissions, user and group by device file
}

// contested tells of a link that two devices of a machine here have a right to. udevd gives it to the last one, hapax to
// the first.
func contested(link string) bool { return strings.Contains(link, "same") }

// lookAt returns what is below /dev.
func lookAt(t *testing.T, c guest.Client) devView {
	t.Helper()
	v := devView{Owners: map[string]string{}}
	alike := map[string][]string{}
	for _, n := range ask[[]guest.Node](t, c, guest.Nodes, "") {
		folder, _, _ := strings.Cut(n.Name, "/")
		isLink := folder == "disk" || folder == "mapper" && n.Name != "mapper/control" // where libdevmapper may make a node
		switch {
		case isLink:
			v.Links = append(v.Links, n.Name)
		case n.Link == "":
			v.Owners[n.Name] = fmt.Sprintf("%04o %d:%d", n.Mode, n.UID, n.GID)
		}
		// The kernel counts disks in the order in which it meets them, which may be another one each time.
		if isLink && n.Link != "" && folder == "disk" && path.Dir(n.Name) != "disk/by-diskseq" && !contested(n.Name) {
			alike[path.Base(n.Link)] = append(alike[path.Base(n.Link)], n.Name)
		}
	}
	for _, links := range alike {
		slices.Sort(links)
		v.Alike = append(v.Alike, strings.Join(links, " "))
	}
	slices.Sort(v.Links)
	slices.Sort(v.Alike)
	return v
}

// await looks until what is there is as wanted, or until it will not be any more, and returns what was seen last.
func await(t *testing.T, c guest.Client, wanted func(devView) bool) devView {
	t.Helper()
	const patience = 50 // looks
	for range patience {
		if v := lookAt(t, c); wanted(v) {
			return v
		}
		time.Sleep(100 * time.Millisecond)
	}
	return lookAt(t, c)
}

// differ compares what udevd and hapax have made of one machine. Of the device files, those that both have count.
func differ(udevd, hapax devView) string {
	for _, two := range [][2]map[string]string{{udevd.Owners, hapax.Owners}, {hapax.Owners, udevd.Owners}} {
		for name := range two[0] {
			if _, both := two[1][name]; !both {
				delete(two[0], name)
			}
		}
	}
	return cmp.Diff(udevd, hapax)
}

// A linkBench has the two images that are compared.
type linkBench struct {
	l            *lab.Lab
	udevd, hapax string
}

func newLinkBench(t *testing.T, l *lab.Lab, k debian.Kernel) linkBench {
	t.Helper()
	udevd, err := l.UdevdImage(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b := linkBench{l, filepath.Join(dir, "udevd.img"), filepath.Join(dir, "hapax.img")}
	for file, base := range map[string]string{b.udevd: udevd, b.hapax: shellImage(t, l, k, "--mode", "universal", "--modules", "dm_mod")} {
		if err := l.WithDmsetup(t.Context(), file, base, []byte(groups)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// compare boots the machine with udevd and with hapax, has prepare do the same in both, and compares what they have made of
// it. The guest of hapax goes on.
func (b linkBench) compare(t *testing.T, m qemu.Machine, limit time.Duration, prepare func(guest.Client)) (*vm.VM, guest.Client) {
	t.Helper()
	m.CPUs, m.Append = 1, bootArgs
	oracle := m
	oracle.Initrd, oracle.Append = b.udevd, bootArgs+"guest_role=udevd"
	v := vm.Run(t, b.l.Logs(), vm.Config{Name: "udevd", Machine: oracle, Limit: limit})
	c := client(t, v, limit)
	prepare(c)
	want := lookAt(t, c)
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	m.Initrd = b.hapax
	v = vm.Run(t, b.l.Logs(), vm.Config{Name: "hapax", Machine: m, Limit: limit})
	c = client(t, v, limit)
	prepare(c)
	got := await(t, c, func(v devView) bool { return differ(want, v) == "" })
	if d := differ(want, got); d != "" {
		t.Errorf("/dev (-udevd +hapax):\n%s", d)
	}
	t.Logf("%d links to %d devices and the owners of %d device files, as systemd-udevd has them", len(got.Links), len(got.Alike), len(got.Owners))
	return v, c
}

// scsiDisks returns the arguments for n disks behind one virtio-scsi controller; each two have one serial number.
func scsiDisks(n int) []string {
	args := []string{"-device", "virtio-scsi-pci,id=scsi"}
	for i := range n {
		args = append(args, "-blockdev", nullDisk(fmt.Sprint("s", i)),
			"-device", fmt.Sprintf("scsi-hd,bus=scsi.0,drive=s%d,serial=same%d,wwn=0x5000000000000%03x", i, i/2, i))
	}
	return args
}

// nvmeDisks returns the arguments for one nvme disk for each serial number.
func nvmeDisks(serials ...string) []string {
	var args []string
	for i, serial := range serials {
		name := fmt.Sprint("n", i)
		args = append(args, "-blockdev", nullDisk(name), "-device", "nvme,drive="+name+",serial="+serial)
	}
	return args
}

// mappedDisk makes a disk with a file system that only shows behind its first 2048 sectors, where a map begins.
func mappedDisk(t *testing.T) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mapped.img")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tool(t, "mkfs.ext4", "-q", "-F", "-E", "offset=1048576", "-L", "mapped", "-U", "6d1c2b5e-3d0c-4d0e-9a53-8f6c58a0c1f8", file, "16M")
	if err := os.Truncate(file, 17<<20); err != nil {
		t.Fatal(err)
	}
	return []string{"-blockdev", "driver=raw,node-name=mapped,file.driver=file,file.filename=" + file, "-device", "virtio-blk-pci,drive=mapped,serial=mapped"}
}

// dmsetup maps devices with Debian's program.
func dmsetup(t *testing.T, c guest.Client, args string) {
	t.Helper()
	if ended := ask[guest.Ended](t, c, guest.Exec, "/sbin/dmsetup "+args); ended.Code != 0 {
		t.Fatalf("dmsetup %s: %s", args, ended.Output)
	}
}

// TestDiskLinks compares the links and the owners of device files in a running image with those that Debian's
// systemd-udevd makes on the same machine. Then a device is mapped that is another one's own affair, and a disk is plugged in
// and taken away again.
func TestDiskLinks(t *testing.T) {
	l, k := needFirst(t)
	m := qemu.Machine{Kernel: k.Vmlinuz, Disks: []string{gptDisk(t, l)}}
	m.Extra = slices.Concat(scsiDisks(8), nvmeDisks("plain", "../../up", "a b  c", "x/y", "é%n$k"), mappedDisk(t))
	v, c := newLinkBench(t, l, k).compare(t, m, 4*time.Minute, func(c guest.Client) {
		await(t, c, func(v devView) bool { return slices.Contains(v.Links, "disk/by-id/virtio-mapped") })
		for file, table := range map[string]string{
			"/run/linear": "0 32768 linear /dev/disk/by-id/virtio-mapped 2048", "/run/error": "0 64 error",
		} {
			ask[any](t, c, guest.Write, file+" "+table)
		}
		ask[guest.Ended](t, c, guest.Exec, "/sbin/modprobe dm_mod")
		dmsetup(t, c, "create vg-root --uuid TEST-abc /run/linear")
		dmsetup(t, c, "create x%y /run/error")
	})

	dmsetup(t, c, "create private --uuid CRYPT-TEMP-x /run/error")
	dmsetup(t, c, "remove vg-root")
	all := await(t, c, func(v devView) bool { return !slices.Contains(v.Links, "disk/by-id/dm-name-vg-root") }).Links
	for _, link := range []string{"disk/by-id/dm-name-private", "disk/by-id/dm-uuid-CRYPT-TEMP-x", "disk/by-id/dm-name-vg-root", "mapper/vg-root"} {
		if slices.Contains(all, link) {
			t.Errorf("there is a link %s", link)
		}
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
	const late = "disk/by-id/virtio-late"
	there := func(v devView) bool { return slices.Contains(v.Links, late) }
	if v := await(t, c, there); !there(v) {
		t.Errorf("a disk that was plugged in has no link %s: %q", late, v.Links)
	}
	if err := v.QMP.RemoveDevice(t.Context(), "late"); err != nil {
		t.Fatal(err)
	}
	if v := await(t, c, func(v devView) bool { return !there(v) }); there(v) {
		t.Errorf("the link %s has outlived its disk", late)
	}
}

// TestManyDiskLinks does the same on machines of the sizes that systemd's own TEST-64-UDEV-STORAGE has.
func TestManyDiskLinks(t *testing.T) {
	need.Time(t)
	l, k := needFirst(t)
	b := newLinkBench(t, l, k)
	for name, machine := range map[string]func() qemu.Machine{
		"128 virtio-scsi disks": func() qemu.Machine { return qemu.Machine{Extra: scsiDisks(128)} },
		"20 nvme disks": func() qemu.Machine {
			return qemu.Machine{Extra: nvmeDisks("deadbeef", "dead/../../beef/15", "../../etc/passwd", "..", ".", "/", "//", "a b  c", "  both ends  ",
				"é%n$k", "\xff\xfe\xfd", "a\xc3", "日本語", `back\slash`, `\x2f\x2e`, "tab\tnew\nline", "quote\"'`", "*?[a-z]", "#+-.:=@_", "01234567890123456789")}
		},
		"16 disks of 8 partitions": func() qemu.Machine {
			m := qemu.Machine{Extra: []string{"-device", "virtio-scsi-pci,id=scsi"}}
			for i := range 16 {
				id := fmt.Sprint("p", i)
				m.Extra = append(m.Extra, "-blockdev", "driver=raw,node-name="+id+",file.driver=file,file.filename="+equalParts(t, 8),
					"-device", "scsi-hd,bus=scsi.0,drive="+id+",serial=parts"+id)
			}
			return m
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := machine()
			m.Kernel = k.Vmlinuz
			v, _ := b.compare(t, m, 10*time.Minute, func(guest.Client) {})
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// equalParts makes a disk with n partitions of the same name.
func equalParts(t *testing.T, n int) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "parts.img")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 16<<20); err != nil {
		t.Fatal(err)
	}
	var args []string
	for i := range n {
		args = append(args, "-n", "0:0:+1M", "-c", fmt.Sprintf("%d:the same name", i+1))
	}
	tool(t, "sgdisk", append(args, file)...)
	return file
}
