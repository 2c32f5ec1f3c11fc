// Package medium reads disks and CDs as UEFI firmware does: it finds the EFI system partition and the files on it. The disk may
// be raw or qcow2, with a GUID partition table or an MBR, the CD has an El Torito catalog.
//
// A medium may be hostile: every number that it holds is checked against its size, chains and folders have bounds, and nothing is
// read into memory but tables.
package medium

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// A Kind is what a medium is.
type Kind string

// The kinds of media.
const (
	Disk Kind = "disk"
	CD   Kind = "CD"
)

// A Medium is a disk or a CD with an EFI system partition. It may be read by several goroutines if what it was opened with can.
type Medium struct {
	Kind   Kind
	volume *volume
	files  []File // by name
}

// A File is a file of the EFI system partition.
type File struct {
	Name string // with slashes and none in front, as the folders spell it
	Size int64

	first uint32 // cluster
}

// ErrNone reports that something is no medium at all.
var ErrNone = errors.New("neither a disk nor a CD")

// Open reads the tables of the medium in r, which has size bytes. It returns ErrNone for whatever is no disk and no CD.
func Open(r io.ReaderAt, size int64) (*Medium, error) {
	if has(r, 0, qcow2Magic) {
		q, err := openQCOW2(r, size)
		if err != nil {
			return nil, fmt.Errorf("a disk in qcow2: %w", err)
		}
		r, size = q, q.size
	}
	m := &Medium{Kind: Disk}
	at, length, err := findESP(r, size)
	if errors.Is(err, ErrNone) || errors.Is(err, errNoESP) {
		if begin, cdErr := findElTorito(r, size); !errors.Is(cdErr, ErrNone) {
			m.Kind, at, length, err = CD, begin, size-begin, cdErr
		}
	} else if has(r, cdSector*16, "\x01CD001") {
		m.Kind = CD // one that starts from a stick, too
	}
	if errors.Is(err, ErrNone) {
		return nil, err
	}
	if err == nil {
		m.volume, err = openVolume(io.NewSectionReader(r, at, length))
	}
	if err == nil {
		m.files, err = m.volume.list()
	}
	if err != nil {
		return nil, fmt.Errorf("a %s: %w", m.Kind, err)
	}
	return m, nil
}

// Sector returns the size of the sectors of a disk in a file, raw or qcow2, by where its partition table lies; 512 if there is none.
func Sector(file string) int {
	f, err := os.Open(file)
	if err != nil {
		return 512
	}
	defer f.Close()
	var r io.ReaderAt = f
	if info, err := f.Stat(); err == nil && has(f, 0, qcow2Magic) {
		q, err := openQCOW2(f, info.Size())
		if err != nil {
			return 512
		}
		r = q
	}
	if !has(r, 512, "EFI PART") && has(r, 4096, "EFI PART") {
		return 4096
	}
	return 512
}

// has reports whether text lies at an offset.
func has(r io.ReaderAt, at int64, text string) bool {
	b := make([]byte, len(text))
	_, err := r.ReadAt(b, at)
	return err == nil && string(b) == text
}

// Files returns the files of the EFI system partition by name.
func (m *Medium) Files() []File { return slices.Clone(m.files) }

// Lookup finds a file as FAT does, whatever the case. Slashes and backslashes divide its name, and one may be in front.
func (m *Medium) Lookup(name string) (File, bool) {
	name = strings.TrimPrefix(path.Clean("/"+strings.ReplaceAll(name, `\`, "/")), "/")
	i := slices.IndexFunc(m.files, func(f File) bool { return strings.EqualFold(f.Name, name) })
	if i < 0 {
		return File{}, false
	}
	return m.files[i], true
}

// Content returns the content of one of the files.
func (m *Medium) Content(f File) (*io.SectionReader, error) {
	content, err := m.volume.content(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return content, nil
}

// errNoESP reports a partition table without an EFI system partition.
var errNoESP = errors.New("no EFI system partition on it")

// typeESP is the kind of EFI system partitions, c12a7328-f81f-11d2-ba4b-00a0c93ec93b, as GPT stores it.
const typeESP = "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b"

// Bounds of a partition table: the UEFI specification has 128 entries of 128 bytes.
const (
	maxEntries   = 1024
	maxEntrySize = 4096
)

// findESP returns where the EFI system partition of a disk lies, by its first GUID partition table or else by its MBR.
func findESP(r io.ReaderAt, size int64) (at, length int64, err error) {
	le := binary.LittleEndian
	for _, sector := range []int64{512, 4096} {
		header := make([]byte, 92)
		_, err := r.ReadAt(header, sector)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		if err != nil || !bytes.HasPrefix(header, []byte("EFI PART")) {
			continue
		}
		table, count, length := le.Uint64(header[72:]), le.Uint32(header[80:]), le.Uint32(header[84:])
		if count > maxEntries || length < 128 || length > maxEntrySize || table > uint64(size/sector) {
			return 0, 0, errors.New("its partition table is damaged")
		}
		for i := range int64(count) {
			entry := make([]byte, 48)
			if _, err := r.ReadAt(entry, int64(table)*sector+i*int64(length)); err != nil {
				return 0, 0, fmt.Errorf("its partition table ends early: %w", err)
			}
			if string(entry[:16]) == typeESP {
				first, last := le.Uint64(entry[32:]), le.Uint64(entry[40:])
				return within(first, last-first+1, sector, size)
			}
		}
		return 0, 0, errNoESP
	}
	mbr := make([]byte, 512)
	if _, err := r.ReadAt(mbr, 0); err != nil || mbr[510] != 0x55 || mbr[511] != 0xaa || !isTable(mbr) {
		return 0, 0, ErrNone
	}
	for entry := range slices.Chunk(mbr[446:510], 16) {
		if entry[4] == 0xef {
			return within(uint64(le.Uint32(entry[8:])), uint64(le.Uint32(entry[12:])), 512, size)
		}
	}
	return 0, 0, errNoESP
}

// isTable tells an MBR from the boot sector of a file system or of an old kernel, which end in the same way: the first byte of an
// entry is 0 or 0x80, and one of them has a kind.
func isTable(mbr []byte) bool {
	kinds := 0
	for entry := range slices.Chunk(mbr[446:510], 16) {
		if entry[0]&0x7f != 0 {
			return false
		}
		if entry[4] != 0 {
			kinds++
		}
	}
	return kinds > 0
}

// within turns sectors into bytes and makes sure that they lie on the medium.
func within(first, count uint64, sector, size int64) (at, length int64, err error) {
	all := uint64(size / sector)
	if first == 0 || count == 0 || first >= all || count > all-first {
		return 0, 0, errors.New("its EFI system partition ends behind it: the file is cut short, or its partition table damaged")
	}
	return int64(first) * sector, int64(count) * sector, nil
}

const cdSector = 2048

// findElTorito returns where the boot image for EFI begins on a CD: El Torito, sections 2 and 3, and UEFI 2.10, section 13.3.2.1.
// Its length in the catalog has too few bits to be of use; the file system in it knows its own.
func findElTorito(r io.ReaderAt, size int64) (at int64, err error) {
	if !has(r, cdSector*16+1, "CD001") {
		return 0, ErrNone
	}
	record := make([]byte, 75)
	if _, err := r.ReadAt(record, cdSector*17); err != nil || !bytes.HasPrefix(record, []byte("\x00CD001\x01EL TORITO SPECIFICATION")) {
		return 0, errors.New("without an El Torito catalog: no firmware starts from it")
	}
	le := binary.LittleEndian
	catalog := make([]byte, cdSector)
	if _, err := r.ReadAt(catalog, int64(le.Uint32(record[71:]))*cdSector); err != nil {
		return 0, fmt.Errorf("its El Torito catalog lies behind its end: %w", err)
	}
	// A header names the platform of the entries behind it: that of the first, which validates the catalog, and 0x90 or 0x91.
	const efi, bootable = 0xef, 0x88
	platform := catalog[1]
	for entry := range slices.Chunk(catalog[32:], 32) {
		switch {
		case entry[0] == 0x90 || entry[0] == 0x91:
			platform = entry[1]
		case entry[0] == bootable && platform == efi:
			at := int64(le.Uint32(entry[8:])) * cdSector
			if at == 0 || at >= size {
				return 0, errors.New("its EFI boot image lies behind its end: the file is cut short")
			}
			return at, nil
		}
	}
	return 0, errors.New("its El Torito catalog has nothing for EFI")
}
