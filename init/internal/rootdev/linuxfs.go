package rootdev

import (
	"encoding/binary"
	"fmt"
)

// Where the superblocks of some file systems are that only Linux has.
const (
	btrfsOffset = 64 << 10
	f2fsOffset  = 1024
	erofsOffset = 1024
)

// readXFS reads the superblock of XFS (fs/xfs/libxfs/xfs_format.h, struct xfs_dsb), which is big-endian.
// Its magic is short, so the figures have to fit each other as well.
func readXFS(d *device, _ magic) (*Info, error) {
	sb, err := d.read(0, 208)
	if err != nil {
		return nil, err
	}
	if !xfsSane(sb) {
		return nil, errNot
	}
	return &Info{
		Type: "xfs", Usage: Filesystem,
		UUID:  formatUUID([16]byte(sb[32:])),
		Label: cString(sb[108:120]),
	}, nil
}

// xfsSane tells whether the figures of a superblock are possible together.
func xfsSane(sb []byte) bool {
	be := binary.BigEndian
	block, sector, inode := be.Uint32(sb[4:]), uint32(be.Uint16(sb[102:])), uint32(be.Uint16(sb[104:]))
	blockLog, sectorLog, inodeLog, inodesLog := int(sb[120]), int(sb[121]), int(sb[122]), int(sb[123])
	blocks, groups, groupBlocks := be.Uint64(sb[8:]), uint64(be.Uint32(sb[88:])), uint64(be.Uint32(sb[84:]))
	extent := be.Uint32(sb[80:]) * block
	const leastGroup = 64 // blocks
	return groups > 0 &&
		logOf(sector, sectorLog, 9, 15) && logOf(block, blockLog, 9, 16) && logOf(inode, inodeLog, 8, 11) &&
		blockLog-inodeLog == inodesLog &&
		extent >= 4<<10 && extent <= 1<<30 &&
		sb[127] <= 100 && // percent of the space that inodes may take
		blocks != 0 && blocks <= groups*groupBlocks && blocks >= (groups-1)*groupBlocks+leastGroup
}

// logOf tells whether log is the binary logarithm of n and lies between least and most.
func logOf(n uint32, log, least, most int) bool { return log >= least && log <= most && n == 1<<log }

// readBtrfs reads the first superblock of btrfs (linux/btrfs_tree.h, struct btrfs_super_block).
func readBtrfs(d *device, _ magic) (*Info, error) {
	sb, err := d.read(btrfsOffset, 0x22b)
	if err != nil {
		return nil, err
	}
	return &Info{
		Type: "btrfs", Usage: Filesystem,
		UUID:    formatUUID([16]byte(sb[0x20:])),
		SubUUID: formatUUID([16]byte(sb[0x10b:])),
		Label:   cString(sb[0x12b:0x22b]),
	}, nil
}

// readSquashFS reads SquashFS 4 (fs/squashfs/squashfs_fs.h, struct squashfs_super_block). Older ones left
// the kernel with 2.6.29.
func readSquashFS(d *device, _ magic) (*Info, error) {
	sb, err := d.read(0, 96)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	major, minor := le.Uint16(sb[28:]), le.Uint16(sb[30:])
	if major < 4 {
		return nil, errNot
	}
	return &Info{Type: "squashfs", Usage: Filesystem, Version: fmt.Sprintf("%d.%d", major, minor)}, nil
}

// readEROFS reads the superblock of EROFS (fs/erofs/erofs_fs.h, struct erofs_super_block).
func readEROFS(d *device, _ magic) (*Info, error) {
	sb, err := d.read(erofsOffset, 128)
	if err != nil {
		return nil, err
	}
	return &Info{
		Type: "erofs", Usage: Filesystem,
		UUID:  formatUUID([16]byte(sb[48:])),
		Label: cString(sb[64:80]),
	}, nil
}

// readF2FS reads the superblock of F2FS (linux/f2fs_fs.h, struct f2fs_super_block). Version 1.0 had another
// layout of what follows the version.
func readF2FS(d *device, _ magic) (*Info, error) {
	sb, err := d.read(f2fsOffset, 0x47c)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	major, minor := le.Uint16(sb[4:]), le.Uint16(sb[6:])
	info := &Info{Type: "f2fs", Usage: Filesystem}
	if major == 1 && minor == 0 {
		return info, nil
	}
	info.UUID = formatUUID([16]byte(sb[0x6c:]))
	info.Version = fmt.Sprintf("%d.%d", major, minor)
	if name := sb[0x7c:]; name[0] != 0 { // so blkid drops labels that begin with U+0100, U+0200 and so on
		info.Label = trim(utf16String(name, le))
	}
	return info, nil
}
