package rootdev

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Info is what a device says about itself, in the spelling of blkid. Every string but Type, Usage and
// TableType is made of bytes from the device: without NUL, but else hostile.
type Info struct {
	Type    string // "ext4"; "" if there is only a partition table
	Usage   Usage
	UUID    string // as printed; "" if it has none or it is all zero
	SubUUID string // of one device of several that share UUID: btrfs, md
	Label   string // "" if it has none
	Version string

	TableType string // of the partition table: "gpt", "dos", "PMBR"; "" without one
	TableUUID string
}

// A Usage is blkid's USAGE: what kind of thing a signature stands for.
type Usage string

// The usages that Probe reports.
const (
	Filesystem Usage = "filesystem"
	RAID       Usage = "raid"   // a member of something that other members are needed for
	Crypto     Usage = "crypto" // a container that has to be unlocked
	Other      Usage = "other"  // swap, or parts of a file system such as an external journal
)

// Errors of Probe. Another one comes from the reader.
var (
	ErrUnknown   = errors.New("no file system that is known here")
	ErrDamaged   = errors.New("wrong checksum in the superblock")
	ErrAmbiguous = errors.New("more than one signature; remove the stale one with wipefs")
)

// A SectorSizer is a reader that knows the logical sector size of its device, in bytes. Partition tables
// count in sectors; without it they are taken to be of 512 bytes.
type SectorSizer interface{ SectorSize() int }

// tinySize is that of a floppy disk, up to which blkid takes the first signature for the only one.
const tinySize = 1440 << 10

// A format is one kind of content that Probe can tell.
type format struct {
	min      int64   // devices smaller than this cannot hold it
	raid     bool    // not looked for on tiny devices
	tolerant bool    // made to share a device with others of this kind, as ISO 9660 and UDF
	magics   []magic // the first that is there is given to read; with none at all read is always called
	// read looks at the rest. It returns errNot if it is something else.
	read func(d *device, m magic) (*Info, error)
}

// A magic is a string at a fixed offset of the device.
type magic struct {
	at    int64
	bytes string
}

// formats returns all formats in the order in which blkid tries them. Containers come first: what is
// inside a member of a RAID 1 can often be seen from outside, too, and must not be touched there.
func formats() []format {
	return []format{
		{read: readMD, raid: true},
		{read: readBcachefs, magics: bcachefsMagics(), min: 256 * 512},
		{read: readLVM2, magics: lvm2Magics(), raid: true},
		{read: readLUKS},
		{read: readBitLocker, magics: bitLockerMagics()},
		{read: readFAT, magics: fatMagics()},
		{read: readSuspend, magics: suspendMagics(), min: swapMin},
		{read: readSwap, magics: swapMagics(), min: swapMin},
		{read: readXFS, magics: []magic{{0, "XFSB"}}},
		{read: readExt, magics: []magic{{extOffset + extMagicAt, "\x53\xef"}}},
		{read: readUDF, magics: udfMagics(), tolerant: true},
		{read: readISO, magics: []magic{{isoOffset + 1, "CD001"}, {isoOffset + 9, "CDROM"}}, tolerant: true},
		{read: readNTFS, magics: []magic{{3, "NTFS    "}}},
		{read: readSquashFS, magics: []magic{{0, "hsqs"}}},
		{read: readBtrfs, magics: []magic{{btrfsOffset + 0x40, "_BHRfS_M"}}, min: 1 << 20},
		{read: readExFAT, magics: []magic{{3, "EXFAT   "}}},
		{read: readF2FS, magics: []magic{{f2fsOffset, "\x10\x20\xf5\xf2"}}},
		{read: readEROFS, magics: []magic{{erofsOffset, "\xe2\xe1\xf5\xe0"}}},
	}
}

// errNot says that a device is not of the format in question. A device too short for it is not either.
var errNot = errors.New("another format")

// Probe tells what r, a device of size bytes, holds, by the rules of blkid -p. It reads at most 1 MiB.
//
// Device contents are hostile: any bytes give an Info or an error. ErrUnknown means that no format fits,
// ErrDamaged that one would but for its checksum: the kernel would not mount it and its names may be wrong.
// ErrAmbiguous means that several fit, as after a mkfs that left the old signature: which of them was meant
// cannot be known. An I/O error is returned as it is, since then nobody knows what the device holds.
func Probe(r io.ReaderAt, size int64) (Info, error) {
	info, _, err := inspect(r, size)
	return *info, err
}

// inspect is Probe that also returns the partition table, nil without one. The table is there beside
// ErrAmbiguous and ErrDamaged, too. The Info is never nil.
func inspect(r io.ReaderAt, size int64) (*Info, *Table, error) {
	d := newDevice(r, size)
	none := new(Info)
	info, err := d.identify()
	if err != nil {
		info = none
	}
	if err != nil && !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrAmbiguous) {
		return none, nil, err
	}
	lvm := info.Type == lvm2Type
	if info.Usage == RAID && !lvm {
		return info, nil, nil // the table is that of the array
	}
	table, terr := d.table()
	if terr != nil && !errors.Is(terr, errNot) {
		return none, nil, terr
	}
	if table == nil {
		return info, nil, err
	}
	if lvm && table.Type == tableDOS {
		if len(table.Parts) == 0 {
			return info, nil, err // a boot sector on a physical volume
		}
		info = none // pvcreate wipes the place of the table, so the table is younger
	}
	if errors.Is(err, ErrUnknown) {
		err = nil
	}
	if err == nil {
		info.TableType, info.TableUUID = table.Type, table.UUID
	}
	return info, table, err
}

// identify runs through the formats.
func (d *device) identify() (*Info, error) {
	if d.size <= 1024 {
		return nil, ErrUnknown
	}
	var first *Info
	var types []string
	strict := false // whether one of types is not tolerant
	verdict := ErrUnknown
	tiny := d.size <= tinySize
	for _, f := range formats() {
		if d.size < f.min || f.raid && tiny {
			continue
		}
		info, err := d.try(f)
		switch {
		case errors.Is(err, errNot):
			continue
		case errors.Is(err, ErrDamaged):
			verdict = err
			continue
		case err != nil:
			return nil, err
		case tiny:
			return info, nil
		}
		if len(types) == 0 {
			first = info
		}
		types = append(types, info.Type)
		if info.Usage == RAID || info.Usage == Crypto {
			break
		}
		strict = strict || !f.tolerant
	}
	switch {
	case len(types) == 0:
		return nil, verdict
	case len(types) > 1 && strict:
		return nil, fmt.Errorf("%s: %w", strings.Join(types, ", "), ErrAmbiguous)
	}
	return first, nil
}

// try tells whether d is of one format.
func (d *device) try(f format) (*Info, error) {
	if len(f.magics) == 0 {
		return f.read(d, magic{})
	}
	m, err := d.find(f.magics)
	if err != nil {
		return nil, err
	}
	return f.read(d, m)
}

// find returns the first magic that is there, or errNot.
func (d *device) find(magics []magic) (magic, error) {
	for _, m := range magics {
		// blkid reads whole KiB, so it sees no magic in the last, incomplete one.
		if m.at&^1023+1024 > d.size {
			continue
		}
		b, err := d.read(uint64(m.at), len(m.bytes))
		switch {
		case err == nil && string(b) == m.bytes:
			return m, nil
		case err != nil && !errors.Is(err, errNot):
			return magic{}, err
		}
	}
	return magic{}, errNot
}
