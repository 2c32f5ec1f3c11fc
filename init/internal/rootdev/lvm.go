package rootdev

import (
	"encoding/binary"
	"strings"
)

const lvm2Type = "LVM2_member"

// lvm2Magics are where the type of a label can be: the label is in one of the first four sectors, 0x18
// bytes into it.
func lvm2Magics() []magic {
	return []magic{{0x218, "LVM2 001"}, {0x018, "LVM2 001"}, {0x418, "LVM2 001"}, {0x618, "LVM2 001"}}
}

// readLVM2 reads the label of a physical volume (lvm2 lib/label/label.h, struct label_header, then the 32
// characters of struct pv_header).
func readLVM2(d *device, m magic) (*Info, error) {
	pair := uint64(m.at) &^ 1023
	b, err := d.read(pair, 1024)
	if err != nil {
		return nil, err
	}
	sector := pair / 512
	if string(b[:8]) != "LABELONE" {
		b = b[512:]
		sector++
	}
	b = b[:512]
	le := binary.LittleEndian
	if string(b[:8]) != "LABELONE" || le.Uint64(b[8:]) != sector || le.Uint32(b[16:]) != checksum(polyIEEE, 0xf597a6cf, b[20:]) {
		return nil, errNot
	}
	return &Info{Type: lvm2Type, Usage: RAID, UUID: lvmUUID(b[32:64]), Version: m.bytes}, nil
}

// lvmUUID sets the hyphens of lvm: groups of 6, 4, 4, 4, 4, 4 and 6 characters.
func lvmUUID(id []byte) string {
	var b strings.Builder
	for i, c := range id {
		if i >= 6 && i <= 26 && i%4 == 2 {
			b.WriteByte('-')
		}
		b.WriteByte(c)
	}
	if strings.Trim(b.String(), "\x00-") == "" {
		return ""
	}
	return cut([]byte(b.String()))
}
