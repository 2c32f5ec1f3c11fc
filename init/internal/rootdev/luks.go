package rootdev

import (
	"encoding/binary"
	"fmt"
)

const luksType = "crypto_LUKS"

// readLUKS reads the header of LUKS1 and LUKS2 (cryptsetup docs/on-disk-format.pdf and
// on-disk-format-luks2.pdf): magic, version uint16, and then in version 1 at 168 the UUID, in version 2 at
// 24 the label and at 168 the UUID. Numbers are big-endian. Where the first header of LUKS2 is gone, the
// second counts: it lies behind the first, whose size is one of those below.
func readLUKS(d *device, _ magic) (*Info, error) {
	sb, err := d.read(0, 512)
	if err != nil {
		return nil, err
	}
	if string(sb[:6]) == "LUKS\xba\xbe" {
		return luksInfo(sb), nil
	}
	for at := uint64(0x4000); at <= 0x400000; at *= 2 {
		if sb, err = d.read(at, 512); err != nil {
			return nil, err
		}
		if string(sb[:6]) == "SKUL\xba\xbe" {
			return luksInfo(sb), nil
		}
	}
	return nil, errNot
}

func luksInfo(sb []byte) *Info {
	version := binary.BigEndian.Uint16(sb[6:])
	info := &Info{Type: luksType, Usage: Crypto, Version: fmt.Sprint(version)}
	if version == 1 || version == 2 {
		info.UUID = cString(sb[168:208])
	}
	if version == 2 {
		info.Label = cString(sb[24:72])
	}
	return info
}
