package rootdev

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// A pathID is the place of a device on the machine, as udev's path_id puts it together from the device
// upwards: "pci-0000:00:1f.2-ata-1.0".
type pathID struct {
	path, compat      string // compat is the form that older versions had for ATA
	transport, parent bool   // whether a bus and a place are known; without both the name would not be unique
	ok                bool
}

func (p *pathID) prepend(s string) {
	if p.path != "" {
		s += "-" + p.path
	}
	p.path = s
}

// pathOf returns the path of a disk and its form for ATA, "" where udev has none.
//
// It leaves out what no machine that hapax runs on has: tape drives, serio, the buses of System z, and
// iSCSI, which needs a network first.
func pathOf(disk node) (string, string) {
	virtual := strings.HasPrefix(disk.path, "devices/virtual/")
	if virtual && !disk.under("nvme-subsystem") {
		return "", ""
	}
	p := &pathID{ok: true}
	for n := disk; n.path != "" && p.ok; n = n.parent() {
		n = p.step(disk, n)
	}
	if !p.ok || p.path == "" || !p.parent || !p.transport {
		return "", ""
	}
	return p.path, p.compat
}

// step takes in one device, and returns the last one that is dealt with.
func (p *pathID) step(disk, n node) node {
	switch subsystem := n.subsystem(); subsystem {
	case "scsi":
		p.transport = true
		return p.scsi(n)
	case "usb":
		p.transport = true
		_, port, ok := strings.Cut(n.name(), "-")
		if kind := n.devtype(); ok && (kind == "usb_interface" || kind == "usb_device") {
			p.prepend("usb-0:" + port) // the number of the bus is not stable
			return n.top("usb")
		}
	case "cciss":
		p.transport = true
		if _, disk, ok := strings.Cut(strings.TrimPrefix(n.name(), "c"), "d"); ok {
			p.prepend("cciss-disk" + disk)
			return n.top("cciss")
		}
	case "virtio":
		p.transport = true
		return n.top("virtio")
	case "nvme", "nvme-subsystem":
		if nsid := disk.attr("nsid"); nsid != "" {
			p.prepend("nvme-" + nsid)
			p.transport, p.parent = true, true
			if subsystem == "nvme-subsystem" {
				n = p.nvmeController(disk)
			}
			return n.top("nvme")
		}
	case "pci", "acpi", "xen", "platform":
		p.transport = p.transport || subsystem == "platform"
		p.parent = true
		if p.compat != "" {
			p.compat = subsystem + "-" + n.name() + "-" + p.compat
		}
		p.prepend(subsystem + "-" + n.name())
		return n.top(subsystem)
	}
	return n
}

// nvmeController returns the controller of a disk that may have several of them and so hangs below none.
func (p *pathID) nvmeController(disk node) node {
	number, _, _ := strings.Cut(strings.TrimPrefix(disk.name(), "nvme"), "n")
	link, err := disk.sys.ReadLink("class/nvme/nvme" + number)
	target := path.Join("class/nvme", link)
	if err != nil || strings.HasPrefix(target, "devices/virtual/") {
		p.ok = false
		return node{}
	}
	return node{disk.sys, target}
}

// scsi takes in a SCSI device, whose place depends on what carries it.
func (p *pathID) scsi(n node) node {
	if n.devtype() != "scsi_device" {
		return n
	}
	place := "/" + n.path
	switch {
	case strings.Contains(place, "/rport-"):
		p.parent = true
		target := n.above("scsi", "scsi_target").name()
		return p.scsiPort(n, "fc-", n.classDevice("fc_transport", target).attr("port_name"))
	case strings.Contains(place, "/end_device-"):
		p.parent = true
		return p.sas(n)
	case strings.Contains(place, "/ata"):
		return p.ata(n)
	case strings.Contains(place, "/vmbus_"), strings.Contains(place, "/VMBUS"):
		id := n.above("scsi", "scsi_host").parent().attr("device_id")
		return p.scsiPort(n, "vmbus-", strings.ReplaceAll(strings.Trim(id, "{}"), "-", ""))
	case strings.Contains(place, "/session"):
		p.ok = false
		return n
	}
	return p.scsiHost(n)
}

// scsiPort takes in a device by the address of its port.
func (p *pathID) scsiPort(n node, kind, port string) node {
	if p.ok = port != ""; p.ok {
		p.prepend(kind + port + "-" + lunOf(n))
	}
	return n
}

// lunOf prints the logical unit number of a SCSI device.
func lunOf(n node) string {
	name := n.name()
	lun, err := strconv.ParseUint(name[strings.LastIndexByte(name, ':')+1:], 10, 64)
	switch {
	case err != nil:
		return ""
	case lun < 256:
		return fmt.Sprintf("lun-%d", lun)
	}
	return fmt.Sprintf("lun-0x%04x%04x00000000", lun&0xffff, lun>>16&0xffff)
}

// scsiAddress splits the name of a SCSI device: host, bus, target and unit.
func scsiAddress(name string) (a [4]int, ok bool) {
	parts := strings.Split(name, ":")
	if len(parts) != 4 {
		return a, false
	}
	for i, s := range parts {
		n, err := strconv.Atoi(s)
		if err != nil {
			return a, false
		}
		a[i] = n
	}
	return a, true
}

// ata takes in a disk behind libata.
func (p *pathID) ata(n node) node {
	a, ok := scsiAddress(n.name())
	port := n.classDevice("ata_port", n.above("scsi", "scsi_host").parent().name()).attr("port_no")
	if p.ok = ok && port != ""; !p.ok {
		return n
	}
	if a[1] != 0 { // behind a port multiplier
		p.prepend("ata-" + port + "." + strconv.Itoa(a[1]) + ".0")
	} else {
		p.prepend("ata-" + port + "." + strconv.Itoa(a[2]))
	}
	p.compat = "ata-" + port
	return n
}

// scsiHost takes in a disk by the number of its host, counted among the hosts of the same controller.
func (p *pathID) scsiHost(n node) node {
	host := n.above("scsi", "scsi_host")
	a, ok := scsiAddress(n.name())
	if p.ok = ok && host.path != ""; !p.ok {
		return n
	}
	siblings, err := n.sys.ReadDir(path.Dir(host.path))
	if err != nil {
		p.ok = false
		return n
	}
	first := -1
	for _, s := range siblings {
		number, ok := strings.CutPrefix(s.Name(), "host")
		if i, err := strconv.Atoi(number); ok && err == nil && (first < 0 || i < first) {
			first = i
		}
	}
	if first >= 0 {
		p.prepend(fmt.Sprintf("scsi-%d:%d:%d:%d", a[0]-first, a[1], a[2], a[3]))
	}
	return host
}

// sas takes in a disk behind a SAS port: by its phy and the expander that it is on, or by its address where
// the port has several phys.
func (p *pathID) sas(n node) node {
	end := n.above("scsi", "scsi_target").parent()
	port := end.parent()
	device := n.classDevice("sas_device", end.name())
	phys := n.classDevice("sas_port", port.name()).attr("num_phys")
	if p.ok = device.path != "" && phys != ""; !p.ok {
		return n
	}
	if phys != "1" {
		return p.scsiPort(n, "sas-", device.attr("sas_address"))
	}
	phy := device.attr("phy_identifier")
	expander := n.classDevice("sas_device", port.parent().name())
	address := expander.attr("sas_address")
	switch {
	case phy == "" || expander.path != "" && address == "":
		p.ok = false
	case address != "":
		p.prepend("sas-exp" + address + "-phy" + phy + "-" + lunOf(n))
	default:
		p.prepend("sas-phy" + phy + "-" + lunOf(n))
	}
	return n
}
