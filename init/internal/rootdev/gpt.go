package rootdev

import (
	"encoding/binary"
	"errors"
	"slices"
)

const (
	gptHeader = 92
	gptEntry  = 128
	// gptMost bounds the entries that are read; nearly every table has 128.
	gptMost = 1024
)

// readGPT reads a GUID partition table (UEFI specification, section 5.3): the primary one, or the backup
// in the last sector if that is damaged. Both have to be right by their checksums.
func (d *device) readGPT() (*Table, error) {
	if d.size < int64(d.sector) {
		return nil, errNot
	}
	last := uint64(d.size)/uint64(d.sector) - 1
	t, err := d.gptAt(1, last)
	if errors.Is(err, errNot) {
		t, err = d.gptAt(last, last)
	}
	return t, err
}

// gptAt reads the table whose header is in the sector lba; last is the last sector of the device.
func (d *device) gptAt(lba, last uint64) (*Table, error) {
	h, err := d.read(lba*uint64(d.sector), d.sector)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	size := uint64(le.Uint32(h[12:]))
	if string(h[:8]) != "EFI PART" || size < gptHeader || size > uint64(d.sector) {
		return nil, errNot
	}
	// The checksum is that of the header with zeros in its place.
	crc := checksum(polyIEEE, ^uint32(0), h[:16])
	crc = checksum(polyIEEE, crc, []byte{0, 0, 0, 0})
	crc = ^checksum(polyIEEE, crc, h[20:size])
	first, usable := le.Uint64(h[40:]), le.Uint64(h[48:])
	count, entry := le.Uint32(h[80:]), le.Uint32(h[84:])
	switch {
	case crc != le.Uint32(h[16:]), lba != le.Uint64(h[24:]),
		usable < first || usable > last, first < lba && lba < usable,
		entry != gptEntry, count == 0 || count > gptMost:
		return nil, errNot
	}
	at := le.Uint64(h[72:])
	if at > last {
		return nil, errNot
	}
	entries, err := d.read(at*uint64(d.sector), int(count)*gptEntry)
	if err != nil {
		return nil, err
	}
	if ^checksum(polyIEEE, ^uint32(0), entries) != le.Uint32(h[88:]) {
		return nil, errNot
	}
	t := &Table{Type: tableGPT, UUID: guidString(h[56:])}
	for i := range int(count) {
		if p, ok := d.gptPart(entries[i*gptEntry:], first, usable); ok {
			p.Number = i + 1
			t.Parts = append(t.Parts, p)
		}
	}
	return t, nil
}

// gptPart reads one entry. It returns false for one that is unused or leaves the usable sectors.
func (d *device) gptPart(e []byte, first, usable uint64) (Part, bool) {
	le := binary.LittleEndian
	kind, start, end := guidString(e), le.Uint64(e[32:]), le.Uint64(e[40:])
	if kind == "" || start < first || end > usable || end < start {
		return Part{}, false
	}
	scale := uint64(d.sector / 512)
	return Part{
		Start: start * scale, Size: (end - start + 1) * scale,
		Type: kind, UUID: guidString(e[16:]),
		Name: trim(utf16String(e[56:128], le)), Flags: le.Uint64(e[48:]),
	}, true
}

// guidString prints a GUID, and one of zeros as "". On the disk the first three fields are little-endian.
func guidString(b []byte) string {
	g := [16]byte(b)
	slices.Reverse(g[:4])
	slices.Reverse(g[4:6])
	slices.Reverse(g[6:8])
	return formatUUID(g)
}
