package rootdev

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Names returns the links below /dev for a device that a Finder has recorded, such as
// "disk/by-uuid/ABCD-1234", each once. They are those of systemd-udevd 252 by its
// 60-persistent-storage.rules for disks and partitions of the kinds nvme, sd, sr, vd, xvd, mmcblk, pmem,
// loop, nbd and cciss, and for devices of the device mapper, which are "mapper/NAME" besides. sys is the file system at /sys, from which it reads a few files of the device and of
// those above it; the same files give the same names.
//
// All of it may be hostile. Every name stays below its folder: where udev would go through "..", or take
// the folder itself, or where a name is too long for a file, there is none. What only an ioctl tells, the
// IDENTIFY data of an ATA disk on a kernel without the vital product data in sysfs, is missing.
func Names(sys SysFS, s Seen) []string {
	dev := node{sys, strings.TrimPrefix(s.DevPath, "/")}
	switch {
	case !strings.HasPrefix(dev.path, "devices/") || !fs.ValidPath(dev.path):
		return nil
	case strings.HasPrefix(dev.name(), "dm-"):
		return mapped(dev, s)
	case !persistent(dev.name()):
		return nil
	}
	disk, part := dev, ""
	if s.Partition {
		disk = dev.parent()
		part = "-part" + strings.TrimPrefix(dev.name(), strings.TrimRightFunc(dev.name(), digit))
		if disk.path == "" || dev.attr("whole_disk") != "" {
			return nil
		}
	}
	n := &names{part: part}
	n.identity(disk)
	n.place(disk)
	if s.Usage == Filesystem || s.Usage == Other || s.Usage == Crypto {
		n.add("by-uuid", encodeLink(s.UUID))
		n.add("by-label", encodeLink(s.Label))
	}
	n.add("by-partuuid", s.Part.UUID)
	if s.Scheme == tableGPT {
		n.add("by-partlabel", encodeLink(s.Part.Name))
	}
	if part == "" {
		n.add("by-diskseq", s.Diskseq)
	}
	return n.links
}

// persistent tells whether the rules of udev are for a device of that name.
func persistent(name string) bool {
	for prefix := range strings.FieldsSeq("loop mmcblk nvme sd sr vd xvd cciss pmem nbd") {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// names collects the links of one device.
type names struct {
	part  string // what follows the names of the disk for a partition: "-part1"
	links []string
}

// add appends the link value in a folder below /dev/disk, if it is good for a name.
func (n *names) add(dir, value string) { n.below("disk/"+dir+"/", value) }

// below appends the link value in a folder below /dev, which ends in a slash, if it is good for a name.
func (n *names) below(folder, value string) {
	value = replaceChars(value, "/")
	link := folder + value
	if value == "" || path.Clean(link) != link || !strings.HasPrefix(link, folder) {
		return
	}
	for word := range strings.SplitSeq(value, "/") {
		if len(word) > 255 {
			return
		}
	}
	if !slices.Contains(n.links, link) {
		n.links = append(n.links, link)
	}
}

// id appends a link in by-id that begins with a word of udev's, for the disk or its partition.
func (n *names) id(kind, value string) {
	if value != "" {
		n.add("by-id", kind+"-"+replaceSpace(value, 511)+n.part)
	}
}

// identity appends the links that a disk has by what it calls itself.
func (n *names) identity(disk node) {
	switch name := disk.name(); {
	case strings.HasPrefix(name, "nvme"):
		n.id("nvme", disk.text("wwid"))
		model, serial, nsid := disk.upText("model"), disk.upText("serial"), disk.upText("nsid")
		if model != "" && serial != "" {
			word := replaceChars(model+"_"+serial, "")
			n.id("nvme", word)
			if nsid != "" {
				n.id("nvme", replaceChars(word+"_"+nsid, ""))
			}
		}
	case strings.HasPrefix(name, "vd"):
		n.id("virtio", disk.upText("serial"))
	case strings.HasPrefix(name, "sd"), strings.HasPrefix(name, "sr"):
		id := identify(disk)
		if id.serial != "" {
			n.id(id.bus, id.serial)
		}
		n.id("usb", id.usb)
		n.id("wwn", id.wwn)
	case strings.HasPrefix(name, "mmcblk") && len(name) == len("mmcblk0"):
		card := disk.up(func(d node) bool { return d.subsystem() == "mmc" })
		if serial, name := card.text("serial"), card.text("name"); serial != "" && name != "" {
			n.id("mmc", name+"_"+serial)
		}
	case strings.HasPrefix(name, "pmem") && n.part == "":
		n.id("pmem", disk.upText("uuid"))
	}
}

// place appends the links that a disk has by where it is.
func (n *names) place(disk node) {
	where, compat := pathOf(disk)
	if where == "" {
		return
	}
	suffix := n.part
	if _, boot, ok := strings.Cut(disk.name(), "boot"); ok && n.part == "" && strings.HasPrefix(disk.name(), "mmcblk") {
		suffix = "-boot" + boot
		compat = ""
	}
	n.add("by-path", where+suffix)
	if compat != "" {
		n.add("by-path", compat+suffix)
	}
	if strings.HasPrefix(disk.name(), "vd") && strings.HasPrefix(where, "pci-") {
		n.add("by-path", "virtio-"+where+suffix)
	}
}
