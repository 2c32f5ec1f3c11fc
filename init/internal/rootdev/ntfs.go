package rootdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// mftRecordMost bounds what is read of one record of the master file table; real ones have 1 or 4 KiB.
const mftRecordMost = 64 << 10

// readNTFS reads the boot sector of NTFS and the record $Volume of its master file table, which has the
// label (the kernel's fs/ntfs3/ntfs.h, struct NTFS_BOOT and MFT_REC).
func readNTFS(d *device, _ magic) (*Info, error) {
	boot, err := d.read(0, 512)
	if err != nil {
		return nil, err
	}
	at, size, err := ntfsMFT(boot)
	if err != nil {
		return nil, err
	}
	const volume = 3 // index of the record
	var record []byte
	for _, n := range []uint64{0, volume} {
		off, carry := bits.Add64(at, n*size, 0)
		if carry != 0 || size > uint64(d.size) || off > uint64(d.size)-size {
			return nil, errNot
		}
		if record, err = d.read(off, int(min(size, mftRecordMost))); err != nil {
			return nil, err
		}
		if string(record[:4]) != "FILE" {
			return nil, errNot
		}
	}
	info := &Info{Type: "ntfs", Usage: Filesystem, Label: ntfsLabel(record)}
	if serial := binary.LittleEndian.Uint64(boot[72:]); serial != 0 {
		info.UUID = fmt.Sprintf("%016X", serial)
	}
	return info, nil
}

// ntfsMFT returns where the master file table begins and the size of its records, both in bytes, or errNot.
func ntfsMFT(boot []byte) (at, record uint64, err error) {
	le := binary.LittleEndian
	sector, perCluster := uint64(le.Uint16(boot[11:])), uint64(boot[13])
	switch {
	case bits.OnesCount64(perCluster) == 1:
	case perCluster >= 240 && perCluster <= 249: // a negative logarithm
		perCluster = 1 << (256 - perCluster)
	default:
		return 0, 0, errNot
	}
	cluster := sector * perCluster
	if sector < 256 || sector > 4096 || cluster > 2<<20 {
		return 0, 0, errNot
	}
	// What a FAT has here must be zero.
	if le.Uint16(boot[14:]) != 0 || boot[16] != 0 || le.Uint16(boot[17:]) != 0 || le.Uint16(boot[19:]) != 0 ||
		le.Uint16(boot[22:]) != 0 || le.Uint32(boot[32:]) != 0 {
		return 0, 0, errNot
	}
	switch n := int8(boot[64]); {
	case n > 0 && n <= 64 && n&(n-1) == 0:
		record = uint64(n) * cluster
	case n >= -31 && n <= -9: // a negative logarithm, too
		record = 1 << -n
	default:
		return 0, 0, errNot
	}
	clusters, first := le.Uint64(boot[40:])/perCluster, le.Uint64(boot[48:])
	if first > clusters || le.Uint64(boot[56:]) > clusters {
		return 0, 0, errNot
	}
	return first * cluster, record, nil
}

// ntfsLabel walks the attributes of a record to the volume name.
func ntfsLabel(record []byte) string {
	le := binary.LittleEndian
	size, used := uint64(len(record)), uint64(le.Uint32(record[28:]))
	const header, name, end = 22, 0x60, 0xffffffff
	for at := uint64(le.Uint16(record[20:])); at+header <= size && at <= used; {
		a := record[at:]
		kind, length := le.Uint32(a), uint64(le.Uint32(a[4:]))
		if length == 0 || kind == end {
			break
		}
		if kind == name {
			from, n := uint64(le.Uint16(a[20:])), uint64(le.Uint32(a[16:]))
			if from+n <= uint64(len(a)) {
				return trim(utf16String(a[from:from+n], le))
			}
			break
		}
		at += length
	}
	return ""
}

// isNTFS tells whether d is NTFS, whose boot sector also looks like one with a partition table.
func (d *device) isNTFS() (bool, error) {
	if m, err := d.find([]magic{{3, "NTFS    "}}); err != nil {
		return false, notError(err)
	} else if _, err = readNTFS(d, m); err != nil {
		return false, notError(err)
	}
	return true, nil
}

// notError returns err unless it is errNot.
func notError(err error) error {
	if errors.Is(err, errNot) {
		return nil
	}
	return err
}
