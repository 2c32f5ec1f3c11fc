package lab

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"unicode/utf16"
)

// A Partition is one entry of a partition table.
type Partition struct {
	Type, UUID, Name string
	Bytes            int64  // rounded up to whole MiB
	Content          string // a file that is copied into it; "" for none
}

const (
	gptEntries   = 128
	gptEntrySize = 128
	partAlign    = 1 << 20
)

// WriteGPT makes a disk with a GUID partition table for sectors of the given size, as chapter 5 of the UEFI specification
// has it, with its backup at the end. The partitions follow one another. The size of the disk is a power of two, as an SD
// card has to have it.
func WriteGPT(file string, sector int64, parts []Partition) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	entries := make([]byte, gptEntries*gptEntrySize)
	at := int64(partAlign)
	for i, p := range parts {
		size := (p.Bytes + partAlign - 1) / partAlign * partAlign
		e := entries[i*gptEntrySize:]
		if err := putGUIDs(e, p.Type, p.UUID); err != nil {
			return err
		}
		binary.LittleEndian.PutUint64(e[32:], uint64(at/sector))
		binary.LittleEndian.PutUint64(e[40:], uint64((at+size)/sector-1))
		for j, c := range utf16.Encode([]rune(p.Name)) {
			binary.LittleEndian.PutUint16(e[56+2*j:], c)
		}
		if p.Content != "" {
			if err := copySparse(f, at, p.Content); err != nil {
				return err
			}
		}
		at += size
	}
	size := int64(partAlign)
	for size < at+partAlign {
		size *= 2
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	return writeTables(f, size/sector, sector, entries)
}

// writeTables writes the protective MBR, and both copies of the header and the entries.
func writeTables(f *os.File, sectors, sector int64, entries []byte) error {
	mbr := make([]byte, 512)
	mbr[450], mbr[510], mbr[511] = 0xee, 0x55, 0xaa
	binary.LittleEndian.PutUint32(mbr[454:], 1)
	binary.LittleEndian.PutUint32(mbr[458:], uint32(sectors-1))
	span := int64(len(entries)) / sector
	header := func(own, other, table int64) []byte {
		h := make([]byte, 92)
		copy(h, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
		for i, v := range []int64{own, other, 2 + span, sectors - 2 - span} {
			binary.LittleEndian.PutUint64(h[24+8*i:], uint64(v))
		}
		copy(h[56:72], "hapax test disk!") // the disk's own GUID
		binary.LittleEndian.PutUint64(h[72:], uint64(table))
		binary.LittleEndian.PutUint32(h[80:], gptEntries)
		binary.LittleEndian.PutUint32(h[84:], gptEntrySize)
		binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
		binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
		return h
	}
	last := sectors - 1
	for _, w := range []struct {
		sector int64
		b      []byte
	}{
		{0, mbr}, {1, header(1, last, 2)}, {2, entries}, {last - span, entries}, {last, header(last, 1, last-span)},
	} {
		if _, err := f.WriteAt(w.b, w.sector*sector); err != nil {
			return err
		}
	}
	return nil
}

// putGUIDs writes the GUIDs of an entry, the first half of each with its bytes reversed.
func putGUIDs(e []byte, guids ...string) error {
	for i, guid := range guids {
		b, err := hex.DecodeString(strings.ReplaceAll(guid, "-", ""))
		if err != nil || len(b) != 16 {
			return fmt.Errorf("%q is no GUID", guid)
		}
		g := e[16*i:]
		copy(g[:16], []byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]})
		copy(g[8:16], b[8:])
	}
	return nil
}

// copySparse copies a file to a place in f, and leaves out what is all zeros: f has nothing there yet.
func copySparse(f *os.File, at int64, file string) error {
	src, err := os.Open(file)
	if err != nil {
		return err
	}
	defer src.Close()
	block, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(src, block)
		if n > 0 && string(block[:n]) != string(zeros[:n]) {
			if _, err := f.WriteAt(block[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return nil
		default:
			return err
		}
	}
}
