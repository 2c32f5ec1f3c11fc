package disk

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// A GUID is the number of a disk, of a partition or of a kind of partition, in the order in which it is printed.
type GUID [16]byte

// String returns the form that PARTUUID= takes.
func (g GUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", g[:4], g[4:6], g[6:8], g[8:10], g[10:])
}

// onDisk returns g as GPT stores it: the first three groups are little-endian numbers.
func (g GUID) onDisk() []byte {
	be, le := binary.BigEndian, binary.LittleEndian
	data := le.AppendUint32(nil, be.Uint32(g[:]))
	data = le.AppendUint16(data, be.Uint16(g[4:]))
	data = le.AppendUint16(data, be.Uint16(g[6:]))
	return append(data, g[8:]...)
}

// deriveGUID returns the GUID that stands for a purpose and what it is about: the same for the same, another for another.
// It is a version 8 of RFC 9562, whose bits are its maker's own.
func deriveGUID(purpose string, about ...[]byte) GUID {
	h := sha256.New()
	h.Write([]byte("hapax " + purpose + "\x00"))
	for _, data := range about {
		h.Write(data)
	}
	g := GUID(h.Sum(nil)[:16])
	g[6] = g[6]&0x0f | 0x80
	g[8] = g[8]&0x3f | 0x80
	return g
}

// Kinds of partitions: that of the UEFI specification, and those of the Discoverable Partitions Specification.
const (
	typeESP       = "\xc1\x2a\x73\x28\xf8\x1f\x11\xd2\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b"
	typeRootAMD64 = "\x4f\x68\xbc\xe3\xe8\xcd\x4d\xb1\x96\xe7\xfb\xca\xf9\x84\xb7\x09"
	typeRootARM64 = "\xb9\x21\xb0\x45\x1d\xf0\x41\xc3\xaf\x44\x4c\x6f\x28\x0d\x3f\xae"
)

// kind returns one of them as a GUID.
func kind(bytes string) GUID { return GUID([]byte(bytes)) }
