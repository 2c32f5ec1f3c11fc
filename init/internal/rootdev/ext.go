package rootdev

import (
	"encoding/binary"
	"fmt"
)

// Where things are in the superblock of ext2, ext3 and ext4 (fs/ext4/ext4.h, struct ext4_super_block).
// All numbers are little-endian.
const (
	extOffset = 1024 // of the superblock on the device
	extSize   = 1024

	extMagicAt    = 0x38
	extMinorAt    = 0x3e // uint16
	extRevAt      = 0x4c // uint32
	extCompatAt   = 0x5c // uint32
	extIncompatAt = 0x60 // uint32
	extROCompatAt = 0x64 // uint32
	extUUIDAt     = 0x68 // 16 bytes
	extLabelAt    = 0x78 // 16 bytes
	extChecksumAt = 0x3fc
)

// Feature bits. A file system is the oldest of ext2, ext3 and ext4 that knows all of its features.
const (
	extHasJournal = 0x4 // compat

	extJournalDev   = 0x8                // incompat: not a file system but the journal of one
	ext2Incompat    = 0x2 | 0x10         // filetype, meta_bg
	ext3Incompat    = ext2Incompat | 0x4 // and needs_recovery
	extROCompat     = 0x1 | 0x2 | 0x4    // sparse_super, large_file, btree_dir: ext2 and ext3 alike
	extMetadataCsum = 0x400              // ro_compat
)

// readExt reads the superblock of the ext family.
//
// Unlike blkid it takes a file system marked with "mke2fs -E test_fs" for what its features say: the type
// ext4dev that the mark once stood for left the kernel with 2.6.29.
func readExt(d *device, _ magic) (*Info, error) {
	sb, err := d.read(extOffset, extSize)
	if err != nil {
		return nil, err
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(sb[at:]) }
	compat, incompat, roCompat := u32(extCompatAt), u32(extIncompatAt), u32(extROCompatAt)

	info := &Info{
		Usage:   Filesystem,
		UUID:    formatUUID([16]byte(sb[extUUIDAt:])),
		Label:   cString(sb[extLabelAt : extLabelAt+16]),
		Version: fmt.Sprintf("%d.%d", u32(extRevAt), binary.LittleEndian.Uint16(sb[extMinorAt:])),
	}
	journal := compat&extHasJournal != 0
	switch {
	case incompat&extJournalDev != 0:
		info.Type, info.Usage = "jbd", Other
	case !journal && incompat&^ext2Incompat == 0 && roCompat&^extROCompat == 0:
		info.Type = "ext2"
	case journal && incompat&^ext3Incompat == 0 && roCompat&^extROCompat == 0:
		info.Type = "ext3"
	default:
		info.Type = "ext4"
	}
	if roCompat&extMetadataCsum != 0 && checksum(polyCastagnoli, ^uint32(0), sb[:extChecksumAt]) != u32(extChecksumAt) {
		return nil, fmt.Errorf("%s: %w", info.Type, ErrDamaged)
	}
	return info, nil
}
