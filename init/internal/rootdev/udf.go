package rootdev

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// udfDescriptor is the size of the longest descriptor that is read here.
const udfDescriptor = 440

// udfSequence bounds the descriptors that are looked at; there are about six.
const udfSequence = 128

// udfMagics are the identifiers that the first volume structure descriptor can have.
func udfMagics() []magic {
	var m []magic
	for _, id := range udfIDs() {
		m = append(m, magic{isoOffset + 1, id})
	}
	return m
}

func udfIDs() []string {
	return []string{"BEA01", "BOOT2", "CD001", "CDW02", "NSR02", "NSR03", "TEA01"}
}

// readUDF reads UDF (ECMA-167 parts 2 and 3, OSTA UDF 2.60): the volume recognition sequence says that it
// is one, the anchor, whose place depends on the block size, leads to the volume descriptors.
func readUDF(d *device, _ magic) (*Info, error) {
	sizes := []int{d.sector}
	for size := 512; size <= 4096; size *= 2 {
		if size != d.sector {
			sizes = append(sizes, size)
		}
	}
	var seen [2]struct{ known, ok bool } // whether the sequence of 2048 and of 4096 bytes each is that of UDF
	for _, size := range sizes {
		step := max(size, 2048)
		s := &seen[step/4096]
		if !s.known {
			ok, err := d.udfRecognized(uint64(step))
			if err != nil {
				return nil, err
			}
			s.known, s.ok = true, ok
		}
		if !s.ok {
			continue
		}
		for _, block := range []uint32{256, 512} {
			vd, err := d.udfBlock(block, size)
			if err != nil {
				return nil, err
			}
			const anchor = 2
			if id, at := udfTag(vd); id == anchor && at == block {
				le := binary.LittleEndian
				return d.udfVolume(le.Uint32(vd[20:]), le.Uint32(vd[16:])/uint32(size), size)
			}
		}
	}
	return nil, errNot
}

// udfRecognized tells whether one of the volume structure descriptors, step bytes apart, is that of UDF.
func (d *device) udfRecognized(step uint64) (bool, error) {
	for i := range uint64(64) {
		b, err := d.read(isoOffset+i*step, 7)
		if err != nil {
			return false, err
		}
		switch id := string(b[1:6]); {
		case id == "NSR02" || id == "NSR03":
			return true, nil
		case !slices.Contains(udfIDs(), id):
			return false, nil
		}
	}
	return false, nil
}

// udfBlock reads the descriptor in a block.
func (d *device) udfBlock(block uint32, size int) ([]byte, error) {
	return d.read(uint64(block)*uint64(size), udfDescriptor)
}

// udfTag returns the identifier of a descriptor and the block that it says it is in.
func udfTag(vd []byte) (id uint16, block uint32) {
	return binary.LittleEndian.Uint16(vd), binary.LittleEndian.Uint32(vd[12:])
}

// udfVolume reads count volume descriptors from first on.
func (d *device) udfVolume(first, count uint32, size int) (*Info, error) {
	le := binary.LittleEndian
	info := &Info{Type: "udf", Usage: Filesystem}
	var revision uint16
	var integrity, integrityLen uint32 // block and bytes of the descriptor that also has the revision
	for i := range min(count, udfSequence) {
		vd, err := d.udfBlock(first+i, size)
		if err != nil {
			return nil, err
		}
		const primary, logical, terminating = 1, 6, 8
		id, at := udfTag(vd)
		if id == 0 || id == terminating || at != first+i {
			break
		}
		switch {
		case id == primary && info.UUID == "" && udfCharset(vd[200:264]):
			info.UUID = udfUUID(udfString(vd[72:200]))
		case id == logical:
			if (integrity == 0 || integrityLen == 0) && le.Uint32(vd[268:]) != 0 { // there are partition maps
				integrityLen, integrity = le.Uint32(vd[432:]), le.Uint32(vd[436:])
			}
			if revision == 0 && cut(vd[217:240]) == "*OSTA UDF Compliant" {
				revision = le.Uint16(vd[240:])
			}
			if info.Label == "" && udfCharset(vd[20:84]) {
				info.Label = trim(udfString(vd[84:212]))
			}
		}
	}
	if integrity != 0 && integrityLen >= udfDescriptor {
		most, err := d.udfRevision(integrity, size)
		if err != nil {
			return nil, err
		}
		revision = max(revision, most)
	}
	if revision != 0 { // decimal digits in hexadecimal: 0x0201 is 2.01
		info.Version = fmt.Sprintf("%x.%02x", revision>>8, revision&0xff)
	}
	return info, nil
}

// udfRevision returns the revision that one needs to read or write the volume, by its logical volume
// integrity descriptor; 0 without one.
func (d *device) udfRevision(block uint32, size int) (uint16, error) {
	vd, err := d.udfBlock(block, size)
	if err != nil {
		return 0, err
	}
	le := binary.LittleEndian
	const integrity, use = 9, 46
	if id, at := udfTag(vd); id != integrity || at != block || le.Uint32(vd[76:]) < use {
		return 0, nil
	}
	b, err := d.read(uint64(block)*uint64(size)+80+8*uint64(le.Uint32(vd[72:])), use)
	if err != nil {
		return 0, err
	}
	return max(le.Uint16(b[40:]), le.Uint16(b[42:])), nil
}

// udfCharset tells whether a character set is the one of UDF.
func udfCharset(b []byte) bool { return b[0] == 0 && cut(b[1:]) == "OSTA Compressed Unicode" }

// udfString decodes a dstring: the width of its characters, the characters, and in the last byte their
// length with the width.
func udfString(b []byte) string {
	n := min(max(int(b[len(b)-1])-1, 0), len(b)-2)
	switch chars := b[1 : 1+n]; b[0] {
	case 8:
		return latin1String(chars)
	case 16:
		return utf16String(chars, binary.BigEndian)
	}
	return ""
}

// udfUUID makes a UUID of the volume set identifier, whose first 16 characters are unique, eight of them
// a time: hexadecimal digits as they are, in lower case, and what is none by the number of its bytes.
func udfUUID(set string) string {
	if len(set) < 8 {
		return ""
	}
	n := min(len(set), 16)
	for n < len(set) && set[n]&0xc0 == 0x80 { // not within a character
		n--
	}
	var id [16]byte
	copy(id[:], set[:n])
	digits := 0
	for digits < 16 && strings.IndexByte("0123456789abcdefABCDEF", id[digits]) >= 0 {
		digits++
	}
	switch low := strings.ToLower(string(id[:])); {
	case digits < 8:
		return fmt.Sprintf("%x", id[:8])
	case digits < 16:
		return low[:8] + fmt.Sprintf("%x", id[8:12])
	default:
		return low
	}
}
