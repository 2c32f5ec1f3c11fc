package rootdev

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// formatUUID prints the 16 bytes of a UUID, and one that is all zero, which means not set, as "".
func formatUUID(u [16]byte) string {
	if u == [16]byte{} {
		return ""
	}
	s := hex.EncodeToString(u[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// spaces are those of isspace(3) in the C locale.
const spaces = " \t\n\v\f\r"

// cString returns the bytes of b before the first NUL, without the white space at their end.
func cString(b []byte) string { return trim(cut(b)) }

// cut returns the bytes of b before the first NUL.
func cut(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// trim returns s without the white space at its end, as blkid has all labels.
func trim(s string) string { return strings.TrimRight(s, spaces) }

// utf16String decodes b up to the first NUL into UTF-8. Half a surrogate pair becomes the three bytes that
// its number would have: blkid does so, and what is compared with it must not differ.
func utf16String(b []byte, order binary.ByteOrder) string {
	var out []byte
	for ; len(b) >= 2; b = b[2:] {
		c := uint32(order.Uint16(b))
		if c == 0 {
			break
		}
		if c>>10 == 0xd800>>10 && len(b) >= 4 {
			if low := uint32(order.Uint16(b[2:])); low>>10 == 0xdc00>>10 {
				c = 0x10000 + (c-0xd800)<<10 + low - 0xdc00
				b = b[2:]
			}
		}
		out = appendUTF8(out, c)
	}
	return string(out)
}

// latin1String decodes b up to the first NUL into UTF-8.
func latin1String(b []byte) string {
	var out []byte
	for _, c := range b {
		if c == 0 {
			break
		}
		out = appendUTF8(out, uint32(c))
	}
	return string(out)
}

// appendUTF8 is utf8.AppendRune that lets surrogates pass.
func appendUTF8(b []byte, c uint32) []byte {
	switch {
	case c < 0x80:
		return append(b, byte(c))
	case c < 0x800:
		return append(b, 0xc0|byte(c>>6), 0x80|byte(c&0x3f))
	case c < 0x10000:
		return append(b, 0xe0|byte(c>>12), 0x80|byte(c>>6&0x3f), 0x80|byte(c&0x3f))
	}
	return append(b, 0xf0|byte(c>>18), 0x80|byte(c>>12&0x3f), 0x80|byte(c>>6&0x3f), 0x80|byte(c&0x3f))
}

// Reversed polynomials of CRC-32.
const (
	polyCastagnoli = 0x82f63b78 // ext4
	polyIEEE       = 0xedb88320 // GPT, LVM
)

// checksum continues crc, a CRC-32, over b, without the inversions before and after. Half a byte at a time is enough for
// a superblock; hash/crc32 would spend 50 times as long on tables that are used once.
func checksum(poly, crc uint32, b []byte) uint32 {
	var table [16]uint32
	for i := range table {
		c := uint32(i)
		for range 4 {
			c = c>>1 ^ poly*(c&1)
		}
		table[i] = c
	}
	for _, c := range b {
		crc ^= uint32(c)
		crc = crc>>4 ^ table[crc&15]
		crc = crc>>4 ^ table[crc&15]
	}
	return crc
}
