package rootdev

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

const (
	mbrTable = 446 // of the four entries, 16 bytes each
	// dosMost bounds the partitions of a DOS table; the kernel has 256 minor numbers for a disk.
	dosMost = 256
	// dosEmpty bounds the extended boot records in a row that have no partition.
	dosEmpty = 100
)

// A dosEntry is one of the four entries of a boot record. Sectors have 512 bytes.
type dosEntry struct {
	boot, kind  byte
	start, size uint64
}

func (e dosEntry) extended() bool { return e.kind == 0x05 || e.kind == 0x0f || e.kind == 0x85 }

// dosEntries reads the entries of a boot record, which count in sectors of the device.
func dosEntries(record []byte, sector int) []dosEntry {
	out := make([]dosEntry, 4)
	scale := uint64(sector / 512)
	le := binary.LittleEndian
	for i := range out {
		b := record[mbrTable+16*i:]
		out[i] = dosEntry{b[0], b[4], uint64(le.Uint32(b[8:])) * scale, uint64(le.Uint32(b[12:])) * scale}
	}
	return out
}

// protective tells whether a boot record, which must have its signature, is there to protect a GPT.
func protective(mbr []byte) bool {
	return slices.ContainsFunc(dosEntries(mbr, 512), func(e dosEntry) bool { return e.kind == 0xee })
}

// readDOS reads a DOS partition table with its logical partitions, by the rules of blkid and the kernel's
// block/partitions/msdos.c. mbr has the signature 55 aa, which many boot sectors have without being a table.
func (d *device) readDOS(mbr []byte) (*Table, error) {
	entries := dosEntries(mbr, d.sector)
	const aix = 0xc1d4c2c9
	if binary.LittleEndian.Uint32(mbr) == aix || protective(mbr) ||
		slices.ContainsFunc(entries, func(e dosEntry) bool { return e.boot != 0 && e.boot != 0x80 }) {
		return nil, errNot
	}
	for _, is := range []func() (bool, error){d.isFAT, d.isNTFS} {
		if yes, err := is(); yes || err != nil {
			return nil, cmp.Or(err, errNot)
		}
	}
	t := &Table{Type: tableDOS}
	if id := binary.LittleEndian.Uint32(mbr[440:]); id != 0 {
		t.UUID = fmt.Sprintf("%08x", id)
	}
	for i, e := range entries {
		if e.size != 0 {
			t.add(i+1, e)
		}
	}
	for _, e := range entries {
		if e.size != 0 && e.start != 0 && e.extended() {
			if err := d.readLogical(t, e); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// add appends a partition.
func (t *Table) add(number int, e dosEntry) {
	p := Part{Number: number, Start: e.start, Size: e.size, Type: fmt.Sprintf("%#x", e.kind), Flags: uint64(e.boot)}
	if t.UUID != "" {
		p.UUID = fmt.Sprintf("%s-%02x", t.UUID, number)
	}
	t.Parts = append(t.Parts, p)
}

// readLogical follows the chain of extended boot records through an extended partition. The first entry of
// each is a logical partition, the second leads to the next record; some systems use the others as well.
// The chain of a hostile disk may be a circle.
func (d *device) readLogical(t *Table, all dosEntry) error {
	at, room := all.start, all.size
	for empty := 0; empty < dosEmpty; empty++ {
		record, err := d.read(at*512, 512)
		if err != nil || record[510] != 0x55 || record[511] != 0xaa {
			return notError(err)
		}
		var link dosEntry
		for i, e := range dosEntries(record, d.sector) {
			if e.extended() {
				if e.size != 0 && e.start != 0 && link.size == 0 {
					link = e
				}
				continue
			}
			inside := e.start+e.size <= room && at+e.start+e.size <= all.start+all.size
			e.start += at
			known := slices.ContainsFunc(t.Parts, func(p Part) bool { return p.Start == e.start })
			if e.size == 0 || i >= 2 && !inside || known || len(t.Parts) >= dosMost {
				continue
			}
			t.add(t.nextLogical(), e)
			empty = -1
		}
		if link.size == 0 {
			return nil
		}
		at, room = all.start+link.start, link.size
	}
	return nil
}

// nextLogical returns the number of the next logical partition; the first is 5.
func (t *Table) nextLogical() int {
	if n := len(t.Parts); n > 0 {
		return max(t.Parts[n-1].Number+1, 5)
	}
	return 5
}
