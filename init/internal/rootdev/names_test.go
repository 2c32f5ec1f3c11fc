package rootdev

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// sysfs builds a /sys of lines "path subsystem devtype attr=value …", where a '-' is nothing, and '_' stands
// for a blank in a value. Every folder on the way that has a line of its own is a device.
func sysfs(lines string) fstest.MapFS {
	sys := fstest.MapFS{}
	for line := range strings.Lines(lines) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		path := f[0]
		uevent := ""
		if len(f) > 2 && f[2] != "-" {
			uevent = "DEVTYPE=" + f[2] + "\n"
		}
		sys[path+"/uevent"] = &fstest.MapFile{Data: []byte(uevent)}
		if len(f) > 1 && f[1] != "-" {
			up := strings.Repeat("../", strings.Count(path, "/")+1)
			sys[path+"/subsystem"] = &fstest.MapFile{Data: []byte(up + "class/" + f[1]), Mode: fs.ModeSymlink}
		}
		for _, attr := range f[min(3, len(f)):] {
			name, value, _ := strings.Cut(attr, "=")
			sys[path+"/"+name] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(value, "_", " ") + "\n")}
		}
	}
	return sys
}

// The devices that most of the cases have in common, as a PC of QEMU has them.
const (
	pci    = "devices/pci0000:00 - -\n"
	vda    = pci + "devices/pci0000:00/0000:00:03.0 pci -\ndevices/pci0000:00/0000:00:03.0/virtio0 virtio -\n"
	vdaAt  = "devices/pci0000:00/0000:00:03.0/virtio0/block/vda"
	sdaAt  = "devices/pci0000:00/0000:00:04.0/virtio1/host2/target2:0:3/2:0:3:300/block/sda"
	ataAt  = "devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda"
	usbAt  = "devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb"
	nvmeAt = "devices/pci0000:00/0000:00:05.0/nvme/nvme0/nvme0n1"
	mmcAt  = "devices/platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0"

	scsi = pci + "devices/pci0000:00/0000:00:04.0 pci -\ndevices/pci0000:00/0000:00:04.0/virtio1 virtio -\n" +
		"devices/pci0000:00/0000:00:04.0/virtio1/host2 scsi scsi_host\n" +
		"devices/pci0000:00/0000:00:04.0/virtio1/host2/target2:0:3 scsi scsi_target\n" +
		"devices/pci0000:00/0000:00:04.0/virtio1/host2/target2:0:3/2:0:3:300 scsi scsi_device vendor=QEMU____ model=QEMU_HARDDISK___ type=0 scsi_level=6\n" +
		sdaAt + " block disk removable=0\n" + sdaAt + "/sda2 block partition\n"
	ata = pci + "devices/pci0000:00/0000:00:1f.2 pci -\ndevices/pci0000:00/0000:00:1f.2/ata1 - -\n" +
		"devices/pci0000:00/0000:00:1f.2/ata1/host0 scsi scsi_host\n" +
		"devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0 scsi scsi_target\n" +
		"devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0 scsi scsi_device vendor=ATA_____ model=QEMU_HARDDISK___ type=0 scsi_level=6\n" +
		"class/ata_port/ata1 - - port_no=1\n" +
		ataAt + " block disk removable=0\n" + ataAt + "/sda1 block partition\n"
	usb = pci + "devices/pci0000:00/0000:00:14.0 pci -\ndevices/pci0000:00/0000:00:14.0/usb2 usb usb_device\n" +
		"devices/pci0000:00/0000:00:14.0/usb2/2-1 usb usb_device idVendor=0951 idProduct=1666 manufacturer=Kingston product=DataTraveler_3.0 serial=60A44C413DF8F331B9651005\n" +
		"devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0 usb usb_interface bInterfaceClass=08 bInterfaceSubClass=06 bInterfaceNumber=00\n" +
		"devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6 scsi scsi_host\n" +
		"devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0 scsi scsi_target\n" +
		"devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0 scsi scsi_device vendor=Kingston model=DataTraveler_3.0 type=0 scsi_level=7\n" +
		usbAt + " block disk removable=1\n" + usbAt + "/sdb1 block partition\n"
	nvme = pci + "devices/pci0000:00/0000:00:05.0 pci -\n" +
		"devices/pci0000:00/0000:00:05.0/nvme/nvme0 nvme - model=QEMU_NVMe_Ctrl__________________________ serial=deadbeef____________ firmware_rev=1.0\n" +
		nvmeAt + " block disk nsid=1 wwid=nvme.8086-6465616462656566-51454d55204e564d65204374726c-00000001\n" +
		nvmeAt + "/nvme0n1p12 block partition\n"
	mmc = "devices/platform/soc platform -\ndevices/platform/soc/fe340000.mmc platform -\n" +
		"devices/platform/soc/fe340000.mmc/mmc_host/mmc0 mmc_host -\n" +
		"devices/platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa mmc - name=SC16G serial=0x5c8f9e33\n" +
		mmcAt + " block disk\n" + mmcAt + "/mmcblk0p1 block partition\n" + mmcAt + "/mmcblk0boot0 block disk\n"
)

// subject returns a disk, or a partition if part is not 0, with contents and an entry in a table.
func subject(path string, part Part, info Info) Seen {
	s := Seen{Device: Device{DevPath: "/" + path}}
	s.Name = path[strings.LastIndexByte(path, '/')+1:]
	s.Info, s.Part = info, part
	if s.Partition = part.Number != 0; s.Partition {
		s.Scheme = tableGPT
	} else {
		s.Diskseq = "7"
	}
	return s
}

func TestNames(t *testing.T) {
	t.Parallel()
	root := Info{Type: "ext4", Usage: Filesystem, UUID: testUUIDText, Label: "my root/é"}
	part := Part{Number: 1, UUID: "0fc63daf-0000-0000-0000-000000000001", Name: `a/b "c"`}
	for _, tt := range []struct {
		name, sys string
		s         Seen
		want      []string // below disk/
	}{
		{"virtio-blk", vda + vdaAt + " block disk serial=", subject(vdaAt, Part{}, Info{}), []string{
			"by-diskseq/7", "by-path/pci-0000:00:03.0", "by-path/virtio-pci-0000:00:03.0",
		}},
		{"virtio-blk with a serial number", vda + vdaAt + " block disk serial=my__disk,1%_\n" + vdaAt + "/vda1 block partition", subject(vdaAt, Part{}, root), []string{
			`by-diskseq/7`, "by-id/virtio-my_disk_1_", `by-label/my\x20root\x2fé`, "by-path/pci-0000:00:03.0", "by-path/virtio-pci-0000:00:03.0", "by-uuid/" + testUUIDText,
		}},
		{"virtio-blk partition", vda + vdaAt + " block disk serial=abc\n" + vdaAt + "/vda1 block partition", subject(vdaAt+"/vda1", part, root), []string{
			"by-id/virtio-abc-part1", `by-label/my\x20root\x2fé`, `by-partlabel/a\x2fb\x20\x22c\x22`, "by-partuuid/" + part.UUID,
			"by-path/pci-0000:00:03.0-part1", "by-path/virtio-pci-0000:00:03.0-part1", "by-uuid/" + testUUIDText,
		}},
		{"partition that is the whole disk", vda + vdaAt + " block disk\n" + vdaAt + "/vda1 block partition whole_disk=1", subject(vdaAt+"/vda1", part, root), nil},
		{"virtio-mmio", "devices/platform/LNRO0005:00 platform -\ndevices/platform/LNRO0005:00/virtio0 virtio -\ndevices/platform/LNRO0005:00/virtio0/block/vda block disk",
			subject("devices/platform/LNRO0005:00/virtio0/block/vda", Part{}, Info{}), []string{"by-diskseq/7", "by-path/platform-LNRO0005:00"}},
		{"virtio-scsi", scsi, subject(sdaAt, Part{}, Info{}), []string{"by-diskseq/7", "by-path/pci-0000:00:04.0-scsi-0:0:3:300"}},
		{"virtio-scsi partition", scsi, subject(sdaAt+"/sda2", Part{Number: 2}, Info{}), []string{"by-path/pci-0000:00:04.0-scsi-0:0:3:300-part2"}},
		{"ahci", ata, subject(ataAt, Part{}, Info{}), []string{"by-diskseq/7", "by-path/pci-0000:00:1f.2-ata-1", "by-path/pci-0000:00:1f.2-ata-1.0"}},
		{"ahci partition", ata, subject(ataAt+"/sda1", part, Info{}), []string{
			`by-partlabel/a\x2fb\x20\x22c\x22`, "by-partuuid/" + part.UUID, "by-path/pci-0000:00:1f.2-ata-1-part1", "by-path/pci-0000:00:1f.2-ata-1.0-part1",
		}},
		{"usb", usb, subject(usbAt, Part{}, Info{}), []string{
			"by-diskseq/7", "by-id/usb-Kingston_DataTraveler_3.0_60A44C413DF8F331B9651005-0:0", "by-path/pci-0000:00:14.0-usb-0:1:1.0-scsi-0:0:0:0",
		}},
		{"usb partition", usb, subject(usbAt+"/sdb1", Part{Number: 1}, Info{}), []string{
			"by-id/usb-Kingston_DataTraveler_3.0_60A44C413DF8F331B9651005-0:0-part1", "by-path/pci-0000:00:14.0-usb-0:1:1.0-scsi-0:0:0:0-part1",
		}},
		{"nvme", nvme, subject(nvmeAt, Part{}, Info{}), []string{
			"by-diskseq/7", "by-id/nvme-QEMU_NVMe_Ctrl_deadbeef", "by-id/nvme-QEMU_NVMe_Ctrl_deadbeef_1",
			"by-id/nvme-nvme.8086-6465616462656566-51454d55204e564d65204374726c-00000001", "by-path/pci-0000:00:05.0-nvme-1",
		}},
		{"nvme partition", nvme, subject(nvmeAt+"/nvme0n1p12", Part{Number: 12}, Info{}), []string{
			"by-id/nvme-QEMU_NVMe_Ctrl_deadbeef-part12", "by-id/nvme-QEMU_NVMe_Ctrl_deadbeef_1-part12",
			"by-id/nvme-nvme.8086-6465616462656566-51454d55204e564d65204374726c-00000001-part12", "by-path/pci-0000:00:05.0-nvme-1-part12",
		}},
		{"mmc", mmc, subject(mmcAt, Part{}, Info{}), []string{"by-diskseq/7", "by-id/mmc-SC16G_0x5c8f9e33", "by-path/platform-fe340000.mmc"}},
		{"mmc partition", mmc, subject(mmcAt+"/mmcblk0p1", Part{Number: 1}, Info{}), []string{"by-id/mmc-SC16G_0x5c8f9e33-part1", "by-path/platform-fe340000.mmc-part1"}},
		{"mmc boot partition", mmc, subject(mmcAt+"/mmcblk0boot0", Part{}, Info{}), []string{"by-diskseq/7", "by-path/platform-fe340000.mmc-boot0"}},
		{"loop device", "devices/virtual/block/loop0 block disk", subject("devices/virtual/block/loop0", Part{}, root), []string{
			"by-diskseq/7", `by-label/my\x20root\x2fé`, "by-uuid/" + testUUIDText,
		}},
		{"xen", "devices/vbd-51712 xen -\ndevices/vbd-51712/block/xvda block disk", subject("devices/vbd-51712/block/xvda", Part{}, Info{}), []string{"by-diskseq/7"}},
		{"raid member", vda + vdaAt + " block disk", subject(vdaAt, Part{}, Info{Type: mdType, Usage: RAID, UUID: testUUIDText, Label: "host:0"}), []string{
			"by-diskseq/7", "by-path/pci-0000:00:03.0", "by-path/virtio-pci-0000:00:03.0",
		}},
		{"luks", "devices/virtual/block/loop0 block disk", subject("devices/virtual/block/loop0", Part{}, Info{Type: luksType, Usage: Crypto, UUID: "x y"}), []string{
			"by-diskseq/7", `by-uuid/x\x20y`,
		}},
		{"no such device", "", subject("devices/x/block/sda", Part{}, Info{}), []string{"by-diskseq/7"}},
		{"a path that leads away", "", Seen{Device: Device{DevPath: "/devices/../../etc/sda", Diskseq: "1"}}, nil},
		{"another path", "", Seen{Device: Device{DevPath: "/block/sda", Diskseq: "1"}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := []string(nil)
			for _, w := range tt.want {
				want = append(want, "disk/"+w)
			}
			got := Names(sysfs(tt.sys), tt.s)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("names differ (-want +got):\n%s", diff)
			}
		})
	}
}

// ids returns the names in by-id of a disk.
func ids(sys SysFS, path string) []string {
	var out []string
	for _, name := range Names(sys, subject(path, Part{}, Info{})) {
		if id, ok := strings.CutPrefix(name, "disk/by-id/"); ok {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// TestNamesHostile: serial numbers and labels that would lead elsewhere. Every device still has its other names.
func TestNamesHostile(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		serial string
		virtio []string // the names in by-id of a virtio disk with that serial number
		nvme   string   // what the names of an nvme disk with that serial number have after its model
	}{
		{"a/b", []string{"virtio-a/b"}, "a_b"},
		{"../../../etc/passwd", nil, ".._.._.._etc_passwd"},
		{"a/..", nil, "a_.."},
		{"a//b", nil, "a__b"},
		{"/", nil, "_"},
		{"..", []string{"virtio-.."}, ".."},
		{"  two  words ", []string{"virtio-two_words"}, "__two__words"},
		{"\xff\xfe", []string{"virtio-__"}, "__"},
		{"vo\u00eda", []string{"virtio-vo\u00eda"}, "vo\u00eda"},
		{"a\nb\tc", []string{"virtio-a_b_c"}, "a_b_c"},
		{`a\x2fb`, []string{`virtio-a\x2fb`}, `a\x2fb`},
		{`a\b`, []string{"virtio-a_b"}, "a_b"},
		{"$attr{x}%k?", []string{"virtio-_attr_x__k_"}, "_attr_x__k_"},
		{"a\x00b", []string{"virtio-a"}, "a"},
		{strings.Repeat("x", 300), nil, ""},
		{strings.Repeat("x/", 100) + "y", []string{"virtio-" + strings.Repeat("x/", 100) + "y"}, strings.Repeat("x_", 100) + "y"},
		{" \t", nil, ""},
	} {
		sys := sysfs(vda + vdaAt + " block disk")
		sys[vdaAt+"/serial"] = &fstest.MapFile{Data: []byte(tt.serial)}
		if diff := cmp.Diff(tt.virtio, ids(sys, vdaAt)); diff != "" {
			t.Errorf("virtio %q: names differ (-want +got):\n%s", tt.serial, diff)
		}
		sys = sysfs(strings.Replace(nvme, "wwid=", "x=", 1))
		sys["devices/pci0000:00/0000:00:05.0/nvme/nvme0/serial"] = &fstest.MapFile{Data: []byte(tt.serial)}
		var want []string
		if tt.nvme != "" {
			want = []string{"nvme-QEMU_NVMe_Ctrl_" + tt.nvme, "nvme-QEMU_NVMe_Ctrl_" + tt.nvme + "_1"}
		}
		if diff := cmp.Diff(want, ids(sys, nvmeAt)); diff != "" {
			t.Errorf("nvme %q: names differ (-want +got):\n%s", tt.serial, diff)
		}
	}
	for label, want := range map[string]string{
		"..": "", ".": "", "a": "a", "../x": `..\x2fx`, "\xff": `\xff`, "\ufffe": "___", "\uffff": `\xef\xbf\xbf`, strings.Repeat(" ", 64): "",
	} {
		names := slices.Sorted(slices.Values(Names(sysfs(""), subject("devices/x/block/sda", Part{}, Info{Type: "ext4", Usage: Filesystem, Label: label}))))
		wanted := []string{"disk/by-diskseq/7", "disk/by-label/" + want}
		if want == "" {
			wanted = wanted[:1]
		}
		if diff := cmp.Diff(wanted, names); diff != "" {
			t.Errorf("label %q: names differ (-want +got):\n%s", label, diff)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add("devices/pci0000:00/0000:00:04.0/virtio1/host2/target2:0:3/2:0:3:300/block/sda", "serial", "a/../b", "label", "uuid", page83(desc(1, 3, "\x50\x01")))
	f.Add(vdaAt, "x y", "..", "..", "", []byte{})
	f.Fuzz(func(t *testing.T, path, serial, model, label, uuid string, page []byte) {
		if !fs.ValidPath(path) {
			return
		}
		sys := sysfs(scsi + vda + ata + nvme)
		for name, data := range map[string][]byte{
			"serial": []byte(serial), "model": []byte(model), "wwid": []byte(serial), "vpd_pg83": page, "vpd_pg80": page, "vpd_pg89": page, "vendor": page,
		} {
			sys[path+"/"+name] = &fstest.MapFile{Data: data}
			sys["devices/pci0000:00/0000:00:04.0/virtio1/host2/target2:0:3/2:0:3:300/"+name] = &fstest.MapFile{Data: data}
		}
		s := subject(path, Part{Number: 1, UUID: uuid, Name: label}, Info{Type: "ext4", Usage: Filesystem, Label: label, UUID: uuid})
		for _, partition := range []bool{false, true} {
			s.Partition = partition
			for _, name := range Names(sys, s) {
				if !fs.ValidPath(name) || !strings.HasPrefix(name, "disk/by-") || strings.Count(name, "/") < 2 || strings.ContainsAny(name, "\x00\n ") {
					t.Errorf("%q", name)
				}
			}
		}
	})
}

func FuzzEncodeLink(f *testing.F) {
	for _, s := range []string{"a/b", `\x2f`, "\xff", "é\ufdd0", ".."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := encodeLink(s)
		if strings.ContainsAny(e, "/ \n\x00") || decodeLink(e) != s {
			t.Errorf("encodeLink(%q) = %q, which means %q", s, e, decodeLink(e))
		}
	})
}
