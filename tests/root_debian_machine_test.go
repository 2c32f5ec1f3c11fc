package tests

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/lab"
)

// A controller is what the root's disk hangs on.
type controller struct {
	name   string
	cloud  bool     // the kernels for the cloud have its driver
	sector int64    // of the disk, in bytes
	disk   string   // the kernel's name for it
	part   string   // what stands between that and the number of a partition
	id     string   // its link below /dev/disk/by-id
	path   string   // its link below /dev/disk/by-path, "" if udev has none for it
	device []string // arguments of QEMU, for the drive "root"
	boots  bool     // OVMF has a driver for it, and one that is not too slow
}

// controllers returns the disks that Debian is booted from. Each sits in slot 0x10, which its path tells.
func controllers() []controller {
	const sas = "drive=root,bus=hba.0,serial=hapax"
	return []controller{
		{
			name: "virtio-blk", cloud: true, boots: true, sector: 512, disk: "vda",
			id: "virtio-hapax", path: "virtio-pci-0000:00:10.0",
			device: []string{"virtio-blk-pci,addr=0x10,drive=root,serial=hapax"},
		},
		{
			name: "virtio-scsi", cloud: true, boots: true, sector: 512, disk: "sda",
			id: "scsi-0QEMU_QEMU_HARDDISK_hapax", path: "pci-0000:00:10.0-scsi-0:0:0:0",
			device: []string{"virtio-scsi-pci,addr=0x10,id=hba", "scsi-hd," + sas},
		},
		{
			name: "nvme", cloud: true, boots: true, sector: 512, disk: "nvme0n1", part: "p",
			id: "nvme-QEMU_NVMe_Ctrl_hapax", path: "pci-0000:00:10.0-nvme-1",
			device: []string{"nvme,addr=0x10,drive=root,serial=hapax"},
		},
		{
			name: "ahci", boots: true, sector: 512, disk: "sda",
			id: "ata-QEMU_HARDDISK_hapax", path: "pci-0000:00:10.0-ata-1",
			device: []string{"ich9-ahci,addr=0x10,id=hba", "ide-hd," + sas},
		},
		{
			name: "usb-storage", boots: true, sector: 512, disk: "sda",
			id: "usb-QEMU_QEMU_HARDDISK_hapax-0:0", path: "pci-0000:00:10.0-usb-0:1:1.0-scsi-0:0:0:0",
			device: []string{"qemu-xhci,addr=0x10,id=hba", "usb-storage," + sas},
		},
		{
			name: "sdhci", sector: 512, disk: "mmcblk0", part: "p",
			id:     "mmc-QEMU__0xdeadbeef",
			device: []string{"sdhci-pci,addr=0x10", "sd-card,drive=root"},
		},
		{
			name: "megasas", sector: 512, disk: "sda",
			id: "scsi-0QEMU_QEMU_HARDDISK_hapax", path: "pci-0000:00:10.0-scsi-0:2:0:0",
			device: []string{"megasas,addr=0x10,id=hba", "scsi-hd," + sas},
		},
		{
			name: "4Kn", cloud: true, boots: true, sector: 4096, disk: "vda",
			id: "virtio-hapax", path: "virtio-pci-0000:00:10.0",
			device: []string{"virtio-blk-pci,addr=0x10,drive=root,serial=hapax,logical_block_size=4096,physical_block_size=4096"},
		},
	}
}

// A naming is a way to name the root on the command line.
type naming struct {
	name string
	root func(c controller) string
	fits func(c controller, fs lab.DebianFS) bool // nil is always
}

func namings() []naming {
	partition := func(c controller) string { return c.disk + c.part + "2" }
	return []naming{
		{name: "UUID", root: func(controller) string { return "UUID=" + lab.DebianUUID },
			fits: func(_ controller, fs lab.DebianFS) bool { return fs.UUID }},
		{name: "LABEL", root: func(controller) string { return "LABEL=" + lab.DebianLabel },
			fits: func(_ controller, fs lab.DebianFS) bool { return fs.Label }},
		{name: "PARTUUID", root: func(controller) string { return "PARTUUID=" + rootPartUUID }},
		{name: "PARTNROFF", root: func(controller) string { return "PARTUUID=" + espPartUUID + "/PARTNROFF=1" }},
		{name: "PARTLABEL", root: func(controller) string { return "PARTLABEL=Debian" }},
		{name: "dev", root: func(c controller) string { return "/dev/" + partition(c) }},
		{name: "by-id", root: func(c controller) string { return "/dev/disk/by-id/" + c.id + "-part2" }},
		{name: "by-path", root: func(c controller) string { return "/dev/disk/by-path/" + c.path + "-part2" },
			fits: func(c controller, _ lab.DebianFS) bool { return c.path != "" }},
		{name: "devno", root: devno},
		{name: autoNaming, root: func(controller) string { return "gpt-auto" },
			fits: func(c controller, _ lab.DebianFS) bool { return c.boots }},
	}
}

// autoNaming is the only one for which the machine starts from its disk.
const autoNaming = "gpt-auto"

// devno names the partition by its number. That of virtio's and nvme's disks depends on what else has a number of the
// kernel's choice.
func devno(c controller) string {
	switch c.disk {
	case "sda":
		return "8:2"
	case "mmcblk0":
		return "179:2"
	case "nvme0n1":
		return "259:2"
	}
	return "254:2"
}

// A debianCase is one boot of Debian.
type debianCase struct {
	init string
	fs   lab.DebianFS
	controller
	naming
}

func (c debianCase) String() string {
	return strings.Join([]string{c.init, c.fs.Name, c.controller.name, c.naming.name}, ",")
}

// debianDimensions returns the columns of a debianCase and which combinations there can be.
func debianDimensions() (sizes []int, allowed func(row []int) bool) {
	systems, disks, names := lab.DebianFileSystems(), controllers(), namings()
	sizes = []int{len(lab.DebianInits()), len(systems), len(disks), len(names)}
	return sizes, func(row []int) bool {
		n := names[row[3]]
		return n.fits == nil || n.fits(disks[row[2]], systems[row[1]])
	}
}

func debianRow(row []int) debianCase {
	return debianCase{lab.DebianInits()[row[0]], lab.DebianFileSystems()[row[1]], controllers()[row[2]], namings()[row[3]]}
}

// namedCase finds a case by what its String is.
func namedCase(t *testing.T, name string) debianCase {
	t.Helper()
	words := strings.Split(name, ",")
	index := func(n int, is func(i int) bool) int {
		for i := range n {
			if is(i) {
				return i
			}
		}
		t.Fatalf("no %s", name)
		return 0
	}
	sizes, allowed := debianDimensions()
	row := []int{
		slices.Index(lab.DebianInits(), words[0]),
		index(sizes[1], func(i int) bool { return lab.DebianFileSystems()[i].Name == words[1] }),
		index(sizes[2], func(i int) bool { return controllers()[i].name == words[2] }),
		index(sizes[3], func(i int) bool { return namings()[i].name == words[3] }),
	}
	if !allowed(row) {
		t.Fatalf("there can be no %s", name)
	}
	return debianRow(row)
}

// kernel returns the smallest kernel that has what the case needs.
func (c debianCase) kernel(t *testing.T, l *lab.Lab) debian.Kernel {
	spec := lab.Kernels()[2]
	if c.controller.cloud && c.fs.Cloud {
		spec = lab.Kernels()[0]
	}
	return kernel(t, l, spec)
}

// arguments returns the kernel command line for a root that is named so. On a host with other load a systemd would wait for
// its terminal in vain.
func (c debianCase) arguments(root string) string {
	return bootArgs + "systemd.default_device_timeout_sec=900 systemd.default_timeout_start_sec=900 root=" + root + " " + c.fs.Args
}

// hapaxRoot is the value of root= to hapax.
func (c debianCase) hapaxRoot() string {
	if c.fs.Overlay {
		return "overlay:" + c.root(c.controller)
	}
	return c.root(c.controller)
}

// machine makes a disk with the root and the machine that it is in.
func (c debianCase) machine(t *testing.T, l *lab.Lab, k debian.Kernel, initrd, args string) qemu.Machine {
	t.Helper()
	content, err := l.DebianRoot(t.Context(), c.init, c.fs)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(content)
	if err != nil {
		t.Fatal(err)
	}
	m := qemu.Machine{Kernel: k.Vmlinuz, Initrd: initrd, Append: args}
	esp := lab.Partition{Type: espType, UUID: espPartUUID, Name: "ESP", Bytes: 1 << 20}
	if c.naming.name == autoNaming {
		m = firmware(t, l, qemu.Machine{})
		esp = bootPartition(t, l, c.sector, k, initrd, args)
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := lab.WriteGPT(file, c.sector, []lab.Partition{
		esp, {Type: rootType, UUID: rootPartUUID, Name: "Debian", Bytes: info.Size(), Content: content},
	}); err != nil {
		t.Fatal(err)
	}
	m.Extra = append(m.Extra, "-drive", "if=none,id=root,format=raw,file="+strings.ReplaceAll(file, ",", ",,"))
	for _, device := range c.device {
		m.Extra = append(m.Extra, "-device", device)
	}
	return m
}
