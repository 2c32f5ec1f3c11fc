package rootdev

import (
	"encoding/binary"
	"errors"
)

const (
	isoOffset = 32 << 10 // of the volume descriptors
	isoSector = 2048
)

// readISO reads ISO 9660 with Joliet, and its forerunner High Sierra (ECMA-119, section 8).
func readISO(d *device, m magic) (*Info, error) {
	if m.bytes == "CDROM" {
		vd, err := d.read(isoOffset, 80)
		if err != nil {
			return nil, err
		}
		return &Info{Type: "iso9660", Usage: Filesystem, Version: "High Sierra", Label: cString(vd[48:80])}, nil
	}
	primary, joliet, err := d.isoVolumes()
	if err != nil {
		return nil, err
	}
	info := &Info{Type: "iso9660", Usage: Filesystem, UUID: isoDate(primary[830:847])}
	if info.UUID == "" {
		info.UUID = isoDate(primary[813:830])
	}
	info.Label = cString(primary[40:72])
	if joliet != nil {
		info.Version = "Joliet Extension"
		name := joinJoliet(joliet[40:72], primary[40:72])
		if name == nil {
			name = joliet[40:72]
		}
		info.Label = trim(utf16String(name, binary.BigEndian))
	}
	return info, nil
}

// isoVolumes returns the first primary volume descriptor, and the first supplementary one of Joliet if
// there is any.
func (d *device) isoVolumes() (primary, joliet []byte, err error) {
	const (
		most = 16 // descriptors that are looked at
		size = 847

		isPrimary, isSupplementary, isEnd = 1, 2, 255
	)
	for i := range uint64(most) {
		vd, err := d.read(isoOffset+i*isoSector, size)
		if err != nil && !errors.Is(err, errNot) {
			return nil, nil, err
		}
		if err != nil || vd[0] == isEnd {
			break
		}
		if vd[0] == isPrimary && primary == nil {
			primary = vd
		}
		if escape := string(vd[88:91]); vd[0] == isSupplementary && joliet == nil &&
			(escape == "%/@" || escape == "%/C" || escape == "%/E") {
			joliet = vd
		}
	}
	if primary == nil {
		return nil, nil, errNot
	}
	return primary, joliet, nil
}

// isoDate makes a UUID of a date and time to a hundredth of a second, "" where it is not set.
func isoDate(b []byte) string {
	digits, offset := string(b[:16]), b[16]
	if digits == "0000000000000000" && offset == 0 || [16]byte(b) == [16]byte{} {
		return ""
	}
	s := digits[:4]
	for i := 4; i < 16; i += 2 {
		s += "-" + digits[i:i+2]
	}
	return cut([]byte(s))
}

// joinJoliet makes the label that was meant of the two that are stored: the one of Joliet is in UTF-16 and
// cut off at 16 characters, the other has 32 but '_' for those that it cannot have. It returns UTF-16, or
// nil where one is not the beginning of the other.
func joinJoliet(wide, plain []byte) []byte {
	var out []byte
	for len(wide) >= 2 && len(plain) > 0 {
		if len(wide) >= 4 && wide[0]>>2 == 0xd8>>2 && wide[2]>>2 == 0xdc>>2 {
			out, wide = append(out, wide[:2]...), wide[2:]
		}
		high, low, c := wide[0], wide[1], plain[0]
		switch {
		case c == '_':
		case high == 0 && low == '_':
			low = c
		case high == 0 && upper(c) == upper(low):
			if c < 'A' || c > 'Z' { // where the plain one is a capital the wide one knows better
				low = c
			}
		default:
			return nil
		}
		out, wide, plain = append(out, high, low), wide[2:], plain[1:]
	}
	for _, c := range plain {
		out = append(out, 0, c)
	}
	return out
}

// upper is toupper(3) in the C locale.
func upper(c byte) byte {
	if c >= 'a' && c <= 'z' {
		c -= 'a' - 'A'
	}
	return c
}
