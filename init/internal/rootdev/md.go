package rootdev

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

const (
	mdType  = "linux_raid_member"
	mdMagic = 0xa92b4efc
	// md0Reserved is the multiple of bytes from the end at which a superblock of version 0.90 lies, and the
	// place it has (linux/raid/md_p.h, MD_RESERVED_BYTES).
	md0Reserved = 64 << 10
)

// readMD looks for a member of a Linux software RAID: version 0.90 and 1.0 at the end of the device, 1.1 at
// its start, 1.2 at 4 KiB.
func readMD(d *device, _ magic) (*Info, error) {
	size := uint64(d.size)
	if size > md0Reserved {
		info, err := d.md0(size&^(md0Reserved-1) - md0Reserved)
		if !errors.Is(err, errNot) {
			return info, err
		}
		info, err = d.md1(size&^4095-8192, "1.0")
		if !errors.Is(err, errNot) {
			return info, err
		}
	}
	info, err := d.md1(0, "1.1")
	if errors.Is(err, errNot) {
		return d.md1(4096, "1.2")
	}
	return info, err
}

// md0 reads a superblock of version 0.90, in the byte order of the machine that made it: 32-bit words
// magic, major, minor, patch, gvalid_words, set_uuid0, ctime, level, size in KiB, 4 more, set_uuid1 to 3
// (linux/raid/md_p.h, mdp_super_t).
func (d *device) md0(at uint64) (*Info, error) {
	sb, err := d.read(at, 64)
	if err != nil {
		return nil, err
	}
	var order binary.ByteOrder = binary.LittleEndian
	if order.Uint32(sb) != mdMagic {
		order = binary.BigEndian
	}
	word := func(i int) uint32 { return order.Uint32(sb[4*i:]) }
	if word(0) != mdMagic {
		return nil, errNot
	}
	used := uint64(word(8)) << 10
	if uint64(d.size) < used+md0Reserved || at < used {
		return nil, errNot
	}
	// The end of a disk can be the end of its last partition. The member is that partition then.
	if within, err := d.partitioned(at-used, used+md0Reserved); within || err != nil {
		return nil, cmp.Or(err, errNot)
	}
	var uuid [16]byte
	binary.BigEndian.PutUint32(uuid[:], word(5))
	if word(2) >= 90 {
		for i := range 3 {
			binary.BigEndian.PutUint32(uuid[4+4*i:], word(13+i))
		}
	}
	return &Info{
		Type: mdType, Usage: RAID, UUID: formatUUID(uuid),
		Version: fmt.Sprintf("%d.%d.%d", word(1), word(2), word(3)),
	}, nil
}

// md1 reads a superblock of version 1.x (linux/raid/md_p.h, struct mdp_superblock_1), which is
// little-endian and says where it is.
func (d *device) md1(at uint64, version string) (*Info, error) {
	sb, err := d.read(at, 256)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if le.Uint32(sb) != mdMagic || le.Uint32(sb[4:]) != 1 || le.Uint64(sb[144:]) != at>>9 {
		return nil, errNot
	}
	return &Info{
		Type: mdType, Usage: RAID, Version: version,
		UUID:    formatUUID([16]byte(sb[16:])),
		Label:   cString(sb[32:64]),
		SubUUID: formatUUID([16]byte(sb[168:])),
	}, nil
}

// partitioned tells whether the bytes from start on belong to one partition of a table that fits the device.
func (d *device) partitioned(start, size uint64) (bool, error) {
	t, err := d.table()
	if t == nil {
		if errors.Is(err, errNot) {
			err = nil
		}
		return false, err
	}
	first, last, sectors := start>>9, (start+size)>>9, uint64(d.size)>>9
	if slices.ContainsFunc(t.Parts, func(p Part) bool { return p.Start+p.Size > sectors }) {
		return false, nil
	}
	return slices.ContainsFunc(t.Parts, func(p Part) bool { return first >= p.Start && last <= p.Start+p.Size }), nil
}
