// Package coldplug finds the devices that were there before the uevent socket was: it walks
// <sysfs>/devices and reports what the add events of those devices would have said.
//
// It only reads. Writing "add" to the uevent files instead, as udevadm trigger does, would have the
// kernel send every event to every listener.
package coldplug

import (
	"bytes"
	"slices"
	"strconv"
)

// A Device is a kernel device that has a modalias, is a block device, or both.
type Device struct {
	DevPath    string   // below the sysfs root, with a leading slash, as in a uevent
	Modaliases []string // each once, in the order of the kernel; trimmed, never empty strings
	Block      *Block   // nil unless it is a disk or a partition
}

// A Block is what the uevent file of a disk or partition says. Its strings are those of the device,
// which may be hostile: DEVNAME and PARTNAME may hold any byte but a newline.
type Block struct {
	Name         string // DEVNAME, below /dev: "vda1", "cciss/c0d0p1"
	Major, Minor uint32
	Partition    bool   // DEVTYPE is partition, not disk
	Diskseq      string // DISKSEQ, decimal; "" before Linux 5.15
	Partn        string // PARTN, decimal; "" for a disk
	PartName     string // PARTNAME, the label in the partition table; "" without one
	PartUUID     string // PARTUUID; "" on kernels that do not tell
}

// A kind says what the directory of a device can hold besides devices.
type kind int

const (
	kindNone   kind = iota // not a device: a group of attributes or of devices
	kindDevice             // a device, nothing more is known
	kindDisk               // a whole disk
	kindNet                // a network interface
)

// parseModalias returns the aliases of a modalias file, of which each line holds one: an ACPI device
// described in device tree style has an acpi: and an of: line.
func parseModalias(content []byte) []string {
	newline := []byte("\n")
	var aliases []string
	for len(content) > 0 {
		var line []byte
		line, content, _ = bytes.Cut(content, newline)
		aliases = appendNew(aliases, line)
	}
	return aliases
}

// parseUevent returns what a uevent file, one KEY=VALUE per line, tells of a device: its aliases, of
// which older kernels give some ACPI devices two, its block device if it is one, and its kind.
func parseUevent(content []byte) (aliases []string, block *Block, k kind) {
	var b struct{ name, typ, major, minor, diskseq, partn, partname, partuuid []byte }
	newline, equals := []byte("\n"), []byte("=")
	k = kindDevice
	for len(content) > 0 {
		var line []byte
		line, content, _ = bytes.Cut(content, newline)
		key, value, _ := bytes.Cut(line, equals)
		value = bytes.TrimSpace(value)
		switch string(key) {
		case "MODALIAS":
			aliases = appendNew(aliases, value)
		case "INTERFACE":
			k = kindNet
		case "DEVTYPE":
			b.typ = value
		case "DEVNAME":
			b.name = value
		case "MAJOR":
			b.major = value
		case "MINOR":
			b.minor = value
		case "DISKSEQ":
			b.diskseq = value
		case "PARTN":
			b.partn = value
		case "PARTNAME":
			b.partname = value
		case "PARTUUID":
			b.partuuid = value
		}
	}
	typ := string(b.typ)
	if typ != "disk" && typ != "partition" {
		return aliases, nil, k
	}
	major, err1 := strconv.ParseUint(string(b.major), 10, 32)
	minor, err2 := strconv.ParseUint(string(b.minor), 10, 32)
	if len(b.name) == 0 || err1 != nil || err2 != nil {
		return aliases, nil, k
	}
	if typ == "disk" {
		k = kindDisk
	}
	return aliases, &Block{
		Name:      string(b.name),
		Major:     uint32(major),
		Minor:     uint32(minor),
		Partition: typ == "partition",
		Diskseq:   string(b.diskseq),
		Partn:     string(b.partn),
		PartName:  string(b.partname),
		PartUUID:  string(b.partuuid),
	}, k
}

// appendNew appends the trimmed alias unless it is empty or there already.
func appendNew(aliases []string, alias []byte) []string {
	s := string(bytes.TrimSpace(alias))
	if s == "" || slices.Contains(aliases, s) {
		return aliases
	}
	return append(aliases, s)
}
