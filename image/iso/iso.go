// Package iso lays out CD images that UEFI starts from: ISO 9660 with an El Torito catalog (version 1.0) whose only entry is an
// EFI system partition. A partition table names the same partition, so the image starts from a USB stick as well.
package iso

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"hapax/image/disk"
	"hapax/image/disk/fat"
	"hapax/image/sparse"
)

// A Spec says what is on a CD.
type Spec struct {
	ESP  []fat.File // of the EFI system partition; needed
	Time time.Time  // of everything
}

// The layout: sectors of 2048 bytes. Those before the descriptors are the partition table's.
const (
	sector          = 2048
	descriptors     = 16 // the volume, the boot record, the end
	pathTable       = 19 // and the same with the other byte order
	rootFolder      = 21
	catalog         = 22
	espSector       = 512 // a MiB, as partitions are aligned
	diskSector      = 512 // as USB sticks have them
	volume          = "HAPAX"
	backupTableSize = 33 * diskSector
)

// New lays out a CD.
func New(spec Spec) (*sparse.Image, error) {
	esp, partition, err := disk.NewESP(fat.Spec{
		Files: spec.ESP, SectorSize: diskSector, Hidden: espSector * sector / diskSector, Time: spec.Time,
	})
	if err != nil {
		return nil, err
	}
	end := espSector*sector + esp.Size() + backupTableSize
	l := layout{
		sectors: uint32((end + sector - 1) / sector), esp: uint32(esp.Size()), stamp: spec.Time.UTC(),
	}
	if year := l.stamp.Year(); year < 1900 || year > 2155 {
		return nil, fmt.Errorf("iso: the year %d: there are 1900 to 2155", year)
	}
	if esp.Size() > 1<<32-sector {
		return nil, fmt.Errorf("iso: the EFI system partition has %d bytes: there can be 4 GiB", esp.Size())
	}
	image := sparse.New(int64(l.sectors) * sector)
	put := func(at int64, data []byte) { image.Put(at*sector, data) }
	put(descriptors, l.primary())
	put(descriptors+1, bootRecord())
	put(descriptors+2, descriptor(255))
	put(pathTable, pathTableOf(binary.LittleEndian))
	put(pathTable+1, pathTableOf(binary.BigEndian))
	put(rootFolder, l.root())
	put(catalog, l.catalog())
	image.PutImage(espSector*sector, esp)
	return image, disk.WriteGPT(image, diskSector, []disk.Partition{partition})
}

// A layout is what the structures of one CD differ in.
type layout struct {
	sectors uint32
	esp     uint32 // bytes
	stamp   time.Time
}

// descriptor returns the beginning of a volume descriptor (ECMA-119, section 8).
func descriptor(kind byte) []byte { return append([]byte{kind}, "CD001\x01"...) }

// primary returns the primary volume descriptor, ECMA-119 section 8.4.
func (l layout) primary() []byte {
	d := append(descriptor(1), 0)
	d = append(d, text("", 32)...)
	d = append(d, text(volume, 32)...)
	d = append(d, make([]byte, 8)...)
	d = both32(d, l.sectors)
	d = append(d, make([]byte, 32)...)
	d = both16(d, 1) // volumes
	d = both16(d, 1) // the number of this one
	d = both16(d, sector)
	d = both32(d, uint32(len(pathTableOf(binary.LittleEndian))))
	d = binary.LittleEndian.AppendUint32(d, pathTable)
	d = binary.LittleEndian.AppendUint32(d, 0)
	d = binary.BigEndian.AppendUint32(d, pathTable+1)
	d = binary.BigEndian.AppendUint32(d, 0)
	d = append(d, l.record("\x00", rootFolder, sector)...)
	d = append(d, text("", 4*128)...) // volume set, publisher, preparer, application
	d = append(d, text("", 3*37)...)  // names of files with the copyright and so on
	stamp := l.stamp.Format("20060102150405") + "00\x00"
	never := strings.Repeat("0", 16) + "\x00"
	d = append(d, stamp+stamp+never+never...) // made, changed, to be used until, and from
	return append(d, 1, 0)                    // version of the file structure
}

// bootRecord returns the descriptor that says where the catalog is, El Torito section 2.
func bootRecord() []byte {
	d := append(descriptor(0), "EL TORITO SPECIFICATION"...)
	d = append(d, make([]byte, 71-len(d))...)
	return binary.LittleEndian.AppendUint32(d, catalog)
}

// catalog returns the boot catalog: the entry that validates it, and the one of the EFI system partition.
func (l layout) catalog() []byte {
	const efi = 0xef
	le := binary.LittleEndian
	c := make([]byte, 32, 64)
	c[0], c[1] = 1, efi
	c[30], c[31] = 0x55, 0xaa
	sum := uint16(0)
	for i := 0; i < len(c); i += 2 {
		sum += le.Uint16(c[i:])
	}
	le.PutUint16(c[28:], -sum)
	c = append(c, 0x88, 0, 0, 0, 0, 0) // to be started, without emulation of a floppy
	// The size has 16 bits. From 32 MiB on it is left open: a firmware then takes all up to the end of the CD.
	size := l.esp / diskSector
	if size > 0xffff {
		size = 0
	}
	c = le.AppendUint16(c, uint16(size))
	c = le.AppendUint32(c, espSector)
	return append(c, make([]byte, 20)...)
}

// root returns the only folder.
func (l layout) root() []byte {
	return slices.Concat(
		l.record("\x00", rootFolder, sector), l.record("\x01", rootFolder, sector),
		l.record("BOOT.CAT;1", catalog, sector), l.record("EFI.IMG;1", espSector, l.esp))
}

// record returns the record of a file or, if its name is one of the two special ones, a folder: ECMA-119 section 9.1.
func (l layout) record(name string, at, size uint32) []byte {
	const folder = 2
	length := 33 + len(name) + 1 - len(name)%2
	r := []byte{byte(length), 0}
	r = both32(r, at)
	r = both32(r, size)
	t := l.stamp
	r = append(r, byte(t.Year()-1900), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0)
	flags := byte(0)
	if name < " " {
		flags = folder
	}
	r = append(r, flags, 0, 0)
	r = both16(r, 1)
	r = append(append(r, byte(len(name))), name...)
	return append(r, make([]byte, length-len(r))...)
}

// pathTableOf returns the list of folders, ECMA-119 section 9.4: the root alone.
func pathTableOf(order binary.AppendByteOrder) []byte {
	t := order.AppendUint32([]byte{1, 0}, rootFolder)
	t = order.AppendUint16(t, 1)
	return append(t, 0, 0)
}

// text returns a field of a length, padded with blanks.
func text(s string, length int) []byte {
	return append([]byte(s), strings.Repeat(" ", length-len(s))...)
}

// both32 and both16 append a number in both byte orders.
func both32(d []byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.LittleEndian.AppendUint32(d, n), n)
}

func both16(d []byte, n uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.LittleEndian.AppendUint16(d, n), n)
}
