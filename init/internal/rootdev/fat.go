package rootdev

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	fatEntry = 32 // bytes of a directory entry
	// fatDirBytes bounds the part of the root directory that is searched for the label. It is nearly always
	// the first entry.
	fatDirBytes = 128 << 10

	fat12Clusters = 0xff4
	fat16Clusters = 0xfff4
	fat32Clusters = 0x0ffffff6
)

// fatMagics are what the boot sector of a FAT may show. The last three stand in others, too.
func fatMagics() []magic {
	return []magic{
		{0x52, "MSWIN"}, {0x52, "FAT32   "},
		{0x36, "MSDOS"}, {0x36, "FAT16   "}, {0x36, "FAT12   "}, {0x36, "FAT     "},
		{0, "\xeb"}, {0, "\xe9"}, {0x1fe, "\x55\xaa"},
	}
}

// A fat is the BIOS parameter block of a FAT (fatgen103.doc; struct fat_boot_sector of the kernel's
// msdos_fs.h). Sizes are in sectors. Its sums wrap around as those of blkid do.
type fat struct {
	boot       []byte
	sector     uint32 // bytes
	cluster    uint32 // sectors
	reserved   uint32
	tables     uint32 // all copies
	dirEntries uint32 // of the root directory, which FAT32 has among its clusters
	clusters   uint32
	big        bool // FAT32, which has no 16-bit length
	length32   uint32
}

// fatBoot reads and checks the boot sector.
func (d *device) fatBoot(m magic) (*fat, error) {
	b, err := d.read(0, 512)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if len(m.bytes) <= 2 && (b[510] != 0x55 || b[511] != 0xaa || string(b[0x36:0x3e]) == "JFS     " || string(b[0x36:0x3e]) == "HPFS    ") {
		return nil, errNot // those two imitate a FAT
	}
	f := &fat{
		boot:       b,
		sector:     uint32(le.Uint16(b[0x0b:])),
		cluster:    uint32(b[0x0d]),
		reserved:   uint32(le.Uint16(b[0x0e:])),
		dirEntries: uint32(le.Uint16(b[0x11:])),
		length32:   le.Uint32(b[0x24:]),
	}
	copies, media := uint32(b[0x10]), b[0x15]
	if copies == 0 || f.reserved == 0 || media < 0xf8 && media != 0xf0 ||
		!powerOfTwo(f.cluster) || !powerOfTwo(f.sector) || f.sector < 512 || f.sector > 4096 {
		return nil, errNot
	}
	sectors := uint32(le.Uint16(b[0x13:]))
	if sectors == 0 {
		sectors = le.Uint32(b[0x20:])
	}
	length := uint32(le.Uint16(b[0x16:]))
	if f.big = length == 0; f.big {
		length = f.length32
	}
	f.tables = length * copies
	dir := (f.dirEntries*fatEntry + f.sector - 1) / f.sector
	f.clusters = (sectors - (f.reserved + f.tables + dir)) / f.cluster
	most := uint32(fat32Clusters)
	if !f.big || f.length32 == 0 {
		if most = fat12Clusters; f.clusters > most {
			most = fat16Clusters
		}
	}
	if f.clusters > most || d.isBitLocker() {
		return nil, errNot
	}
	return f, nil
}

func powerOfTwo(n uint32) bool { return n != 0 && n&(n-1) == 0 }

// isFAT tells whether d is a FAT, whose boot sector also looks like one with a partition table.
func (d *device) isFAT() (bool, error) {
	m, err := d.find(fatMagics())
	if err == nil {
		_, err = d.fatBoot(m)
	}
	if errors.Is(err, errNot) {
		return false, nil
	}
	return err == nil, err
}

// readFAT reads FAT12, FAT16 and FAT32. The label is the one of the root directory: that of the boot sector
// is not kept up to date.
func readFAT(d *device, m magic) (*Info, error) {
	f, err := d.fatBoot(m)
	if err != nil {
		return nil, err
	}
	info := &Info{Type: "vfat", Usage: Filesystem}
	switch {
	case !f.big:
		info.Label, err = d.fatLabel(uint64((f.reserved+f.tables)*f.sector), f.dirEntries)
		if b := f.boot; b[0x26] == 0x28 || b[0x26] == 0x29 {
			info.UUID = fatSerial(b[0x27:])
		}
		switch {
		case f.clusters < fat12Clusters:
			info.Version = "FAT12"
		case f.clusters < fat16Clusters:
			info.Version = "FAT16"
		}
	case f.length32 != 0:
		info.Version, info.UUID = "FAT32", fatSerial(f.boot[0x43:])
		if info.Label, err = d.fat32Label(f); err == nil {
			err = d.checkFSInfo(f)
		}
	}
	if err != nil {
		return nil, err
	}
	return info, nil
}

// fatSerial prints a volume serial number.
func fatSerial(b []byte) string {
	n := binary.LittleEndian.Uint32(b)
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%04X-%04X", n>>16, n&0xffff)
}

// fatLabel searches a directory of so many entries for the label, "" if there is none.
func (d *device) fatLabel(at uint64, entries uint32) (string, error) {
	whole := uint64(entries) * fatEntry
	if d.size > tinySize && (whole > uint64(d.size) || at > uint64(d.size)-whole) {
		return "", nil
	}
	if at >= uint64(d.size) {
		return "", nil
	}
	left := min(whole, fatDirBytes, (uint64(d.size)-at)&^(fatEntry-1))
	for left > 0 {
		b, err := d.read(at, int(min(left, 4096)))
		if errors.Is(err, errNot) {
			break
		}
		if err != nil {
			return "", err
		}
		at, left = at+uint64(len(b)), left-uint64(len(b))
		for ; len(b) > 0; b = b[fatEntry:] {
			if b[0] == 0 {
				return "", nil
			}
			if label, ok := fatVolume(b[:fatEntry]); ok {
				return label, nil
			}
		}
	}
	return "", nil
}

// fatVolume returns the label if e is the directory entry that holds it.
func fatVolume(e []byte) (string, bool) {
	const volume, dir, longName, mask = 0x08, 0x10, 0x0f, 0x3f
	le := binary.LittleEndian
	if e[0] == 0xe5 || le.Uint16(e[20:]) != 0 || le.Uint16(e[26:]) != 0 || e[11]&mask == longName || e[11]&(volume|dir) != volume {
		return "", false
	}
	name := [11]byte(e)
	if name[0] == 0x05 {
		name[0] = 0xe5
	}
	return cString(name[:]), true
}

// fat32Label follows the clusters of the root directory.
func (d *device) fat32Label(f *fat) (string, error) {
	le := binary.LittleEndian
	entries := uint32(uint64(f.length32) * uint64(f.sector) / 4)
	perCluster := f.cluster * f.sector
	next := le.Uint32(f.boot[0x2c:])
	for seen := uint32(0); next != 0 && next < entries && seen < fatDirBytes; seen += perCluster {
		first := f.reserved + f.tables + (next-2)*f.cluster
		label, err := d.fatLabel(uint64(first)*uint64(f.sector), perCluster/fatEntry)
		if label != "" || err != nil {
			return label, err
		}
		b, err := d.read(uint64(f.reserved)*uint64(f.sector)+4*uint64(next), 4)
		if errors.Is(err, errNot) {
			break
		}
		if err != nil {
			return "", err
		}
		next = le.Uint32(b) & 0x0fffffff
	}
	return "", nil
}

// checkFSInfo refuses a FAT32 whose FSInfo sector is something else. Zeros pass: some never write it.
func (d *device) checkFSInfo(f *fat) error {
	n := binary.LittleEndian.Uint16(f.boot[0x30:])
	if n == 0 {
		return nil
	}
	b, err := d.read(uint64(n)*uint64(f.sector), 512)
	if err != nil {
		return err
	}
	switch first, second := string(b[:4]), string(b[484:488]); {
	case first != "RRaA" && first != "RRdA" && first != "\x00\x00\x00\x00",
		second != "rrAa" && second != "\x00\x00\x00\x00":
		return errNot
	}
	return nil
}
