package disk

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"unicode/utf16"

	"hapax/image/sparse"
)

// What the UEFI specification (2.10, section 5) says of the GUID partition table.
const (
	gptEntries    = 128
	gptEntrySize  = 128
	gptHeaderSize = 92
	nameUnits     = 36
)

// A Partition is one entry of a partition table.
type Partition struct {
	Name        string // up to 36 characters
	Type, GUID  GUID
	First, Last int64 // sectors, both its own
	Attributes  uint64
}

// WriteGPT lays a protective MBR and both partition tables on an image, whose size is a multiple of sectorSize. The GUID of
// the disk is derived from those of the partitions.
func WriteGPT(image *sparse.Image, sectorSize int, partitions []Partition) error {
	g := gpt{sector: int64(sectorSize), last: image.Size()/int64(sectorSize) - 1}
	guids := make([][]byte, len(partitions))
	for i := range partitions {
		guids[i] = partitions[i].GUID[:]
	}
	g.disk = deriveGUID("disk", guids...)
	g.tableSectors = (gptEntries*gptEntrySize + g.sector - 1) / g.sector
	entries := make([]byte, gptEntries*gptEntrySize)
	if len(partitions) > gptEntries {
		return fmt.Errorf("gpt: %d partitions are more than %d", len(partitions), gptEntries)
	}
	for i, p := range partitions {
		if p.First < g.firstUsable() || p.Last > g.lastUsable() || p.Last < p.First {
			return fmt.Errorf("gpt: partition %s from sector %d to %d: there are %d to %d", p.Name, p.First, p.Last,
				g.firstUsable(), g.lastUsable())
		}
		if err := p.encode(entries[i*gptEntrySize:]); err != nil {
			return err
		}
	}
	sum := crc32.ChecksumIEEE(entries)
	image.Put(0, protectiveMBR(g.last))
	image.Put(g.sector, g.header(1, g.last, 2, sum))
	image.Put(2*g.sector, entries)
	image.Put((g.last-g.tableSectors)*g.sector, entries)
	image.Put(g.last*g.sector, g.header(g.last, 1, g.last-g.tableSectors, sum))
	return nil
}

type gpt struct {
	sector       int64 // bytes
	last         int64 // sector of the disk
	tableSectors int64
	disk         GUID
}

func (g gpt) firstUsable() int64 { return 2 + g.tableSectors }
func (g gpt) lastUsable() int64  { return g.last - g.tableSectors - 1 }

// header returns one of the two headers: the sector it lies in, the other one's, and where its table begins.
func (g gpt) header(at, other, table int64, sum uint32) []byte {
	le := binary.LittleEndian
	h := append(make([]byte, 0, gptHeaderSize), "EFI PART"...)
	h = le.AppendUint32(h, 0x00010000) // revision
	h = le.AppendUint32(h, gptHeaderSize)
	h = le.AppendUint32(h, 0) // its own sum, see below
	h = le.AppendUint32(h, 0)
	for _, sector := range []int64{at, other, g.firstUsable(), g.lastUsable()} {
		h = le.AppendUint64(h, uint64(sector))
	}
	h = append(h, g.disk.onDisk()...)
	h = le.AppendUint64(h, uint64(table))
	h = le.AppendUint32(h, gptEntries)
	h = le.AppendUint32(h, gptEntrySize)
	h = le.AppendUint32(h, sum)
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	return h
}

func (p Partition) encode(entry []byte) error {
	name := utf16.Encode([]rune(p.Name))
	if len(name) > nameUnits {
		return fmt.Errorf("gpt: partition name %q is longer than %d characters", p.Name, nameUnits)
	}
	le := binary.LittleEndian
	copy(entry, p.Type.onDisk())
	copy(entry[16:], p.GUID.onDisk())
	le.PutUint64(entry[32:], uint64(p.First))
	le.PutUint64(entry[40:], uint64(p.Last))
	le.PutUint64(entry[48:], p.Attributes)
	for i, unit := range name {
		le.PutUint16(entry[56+2*i:], unit)
	}
	return nil
}

// protectiveMBR returns a boot sector that shows the whole disk as one partition to tools that do not know GPT.
func protectiveMBR(last int64) []byte {
	mbr := make([]byte, 512)
	entry := mbr[446:]
	copy(entry[1:], "\x00\x02\x00") // the first sector, in cylinders, heads and sectors
	entry[4] = 0xee
	copy(entry[5:], "\xff\xff\xff") // the last one, beyond what this form can say
	binary.LittleEndian.PutUint32(entry[8:], 1)
	binary.LittleEndian.PutUint32(entry[12:], uint32(min(last, 1<<32-1)))
	mbr[510], mbr[511] = 0x55, 0xaa
	return mbr
}
