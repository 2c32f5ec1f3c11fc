package modfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

var errCut = errors.New("cut short, or not written to its end")

// CheckEnd reports a packed module file that is cut short or was overwritten at its end, as far as that shows without unpacking
// it, which takes a hundred times as long: by the footer and the index of xz, and by the lengths of zstd's blocks. It knows
// nothing of other files, and finds no damage in the middle.
func CheckEnd(file []byte) error {
	switch {
	case bytes.HasPrefix(file, []byte("\xfd7zXZ\x00")):
		return checkXZ(file)
	case bytes.HasPrefix(file, []byte("\x28\xb5\x2f\xfd")):
		return checkZstd(file)
	}
	return nil
}

// checkXZ looks at the end of a file of one stream: index, its CRC32, and a footer of CRC32, length of the index, flags and
// magic (xz file format 1.2, sections 2.1.2 and 4).
func checkXZ(file []byte) error {
	const header, footer = 12, 12
	if len(file) < header+footer {
		return errCut
	}
	end := file[len(file)-footer:]
	if string(end[10:]) != "YZ" || binary.LittleEndian.Uint32(end) != crc32.ChecksumIEEE(end[4:10]) {
		return errCut
	}
	length := (int64(binary.LittleEndian.Uint32(end[4:])) + 1) * 4
	if length < 8 || length > int64(len(file)-header-footer) {
		return errCut
	}
	index := file[int64(len(file)-footer)-length:][:length]
	if index[0] != 0 || binary.LittleEndian.Uint32(index[length-4:]) != crc32.ChecksumIEEE(index[:length-4]) {
		return errCut
	}
	return nil
}

// checkZstd walks the blocks of a frame (RFC 8878, section 3.1.1).
func checkZstd(file []byte) error {
	if len(file) < 5 {
		return errCut
	}
	descriptor := file[4]
	at := 5 + []int{0, 1, 2, 4}[descriptor&3] // the dictionary's number
	switch size := descriptor >> 6; {
	case descriptor&0x20 == 0:
		at += 1 + []int{0, 2, 4, 8}[size] // a window, and perhaps the content's size
	default:
		at += []int{1, 2, 4, 8}[size]
	}
	for last := false; !last; {
		if at+3 > len(file) {
			return errCut
		}
		block := int(file[at]) | int(file[at+1])<<8 | int(file[at+2])<<16
		length := block >> 3
		if block>>1&3 == 1 { // one byte, repeated
			length = 1
		}
		last = block&1 != 0
		at += 3 + length
	}
	if descriptor&4 != 0 { // a checksum
		at += 4
	}
	if at > len(file) {
		return errCut
	}
	return nil
}
