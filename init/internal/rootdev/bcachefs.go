package rootdev

import (
	"encoding/binary"
	"fmt"
)

const bcachefsOffset = 4096

// bcachefsMagics are the file system's own and the one of bcache that it began with.
func bcachefsMagics() []magic {
	return []magic{
		{bcachefsOffset + 24, "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"},
		{bcachefsOffset + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"},
	}
}

// readBcachefs reads the superblock (fs/bcachefs/bcachefs_format.h, struct bch_sb), by the rules of blkid
// from util-linux 2.39 on, which tells bcachefs from bcache by the number of devices. The checksum is not
// compared: which one it is stands in a field that has moved.
func readBcachefs(d *device, _ magic) (*Info, error) {
	const (
		fixed = 752      // bytes before the variable part
		most  = 64 << 10 // what the kernel accepts at most
	)
	sb, err := d.read(bcachefsOffset, fixed)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	index, devices := sb[122], sb[123]
	size := fixed + 8*uint64(le.Uint32(sb[124:]))
	if le.Uint64(sb[104:]) != bcachefsOffset/512 || index >= devices || size > most {
		return nil, errNot
	}
	return &Info{
		Type: "bcachefs", Usage: Filesystem,
		UUID:    formatUUID([16]byte(sb[56:])),
		Label:   cString(sb[72:104]),
		Version: fmt.Sprint(le.Uint16(sb[16:])),
	}, nil
}
