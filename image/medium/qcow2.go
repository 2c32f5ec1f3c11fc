package medium

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const qcow2Magic = "QFI\xfb"

// Bounds of a qcow2 file. Larger tables than these are those of disks of petabytes.
const (
	maxDisk = 1 << 46
	maxL1   = 32 << 20 // bytes
)

// A qcow2 is a disk in QEMU's format, docs/interop/qcow2.txt, without the features that no one needs for a file to look into:
// backing files, encryption, compressed clusters and data in another file are refused.
type qcow2 struct {
	file    io.ReaderAt
	size    int64 // of the disk
	cluster int64
	l1      []byte
}

func openQCOW2(file io.ReaderAt, size int64) (*qcow2, error) {
	h := make([]byte, 104)
	if n, err := file.ReadAt(h, 0); err != nil && (n < 72 || !errors.Is(err, io.EOF)) {
		return nil, fmt.Errorf("its header is cut short: %w", err)
	}
	be := binary.BigEndian
	version, bits, l1Size, l1At := be.Uint32(h[4:]), be.Uint32(h[20:]), be.Uint32(h[36:]), be.Uint64(h[40:])
	const dirty, corrupt = 1, 2 // features that do not matter here: counts of references may be wrong
	switch {
	case version != 2 && version != 3:
		return nil, fmt.Errorf("version %d is not known", version)
	case be.Uint64(h[8:]) != 0:
		return nil, errors.New("what it holds is in part in another file: make one of them with qemu-img convert")
	case be.Uint32(h[32:]) != 0:
		return nil, errors.New("it is encrypted")
	case version == 3 && be.Uint64(h[72:])&^(dirty|corrupt) != 0:
		return nil, errors.New("it has features that are not known here: convert it with qemu-img convert -O raw")
	case bits < 9 || bits > 21, be.Uint64(h[24:]) > maxDisk, int64(l1Size)*8 > maxL1, l1At > uint64(size):
		return nil, errors.New("its header is damaged")
	}
	q := &qcow2{file: file, size: int64(be.Uint64(h[24:])), cluster: 1 << bits, l1: make([]byte, int64(l1Size)*8)}
	if _, err := file.ReadAt(q.l1, int64(l1At)); err != nil {
		return nil, fmt.Errorf("its table is cut short: %w", err)
	}
	return q, nil
}

// ReadAt implements io.ReaderAt on the disk.
func (q *qcow2) ReadAt(p []byte, at int64) (n int, err error) {
	if at < 0 {
		return 0, errors.New("negative offset")
	}
	for n < len(p) {
		if at >= q.size {
			return n, io.EOF
		}
		part := p[n:min(int64(len(p)), int64(n)+min(q.cluster-at%q.cluster, q.size-at))]
		where, err := q.find(at)
		switch {
		case err != nil:
			return n, err
		case where == 0:
			clear(part)
		default:
			if _, err := q.file.ReadAt(part, where); err != nil {
				return n, err
			}
		}
		n += len(part)
		at += int64(len(part))
	}
	return n, nil
}

// find returns where an offset of the disk lies in the file, 0 for one that holds zeros.
func (q *qcow2) find(at int64) (int64, error) {
	const offset, compressed, zeros = 1<<56 - 1<<9, 1 << 62, 1
	perTable := q.cluster / 8
	index := at / q.cluster
	if (index/perTable+1)*8 > int64(len(q.l1)) {
		return 0, errors.New("its table is too short for its size")
	}
	table := int64(binary.BigEndian.Uint64(q.l1[index/perTable*8:]) & offset)
	if table == 0 {
		return 0, nil
	}
	b := make([]byte, 8)
	if _, err := q.file.ReadAt(b, table+index%perTable*8); err != nil {
		return 0, fmt.Errorf("its table is cut short: %w", err)
	}
	entry := binary.BigEndian.Uint64(b)
	if entry&compressed != 0 {
		return 0, errors.New("it has compressed clusters: convert it with qemu-img convert -O raw")
	}
	if entry&zeros != 0 || entry&offset == 0 {
		return 0, nil
	}
	return int64(entry&offset) + at%q.cluster, nil
}
