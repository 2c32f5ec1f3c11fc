package sparse

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The shape of the qcow2 files written here: version 3, clusters of 64 KiB, reference counts of 16 bits, as in
// docs/interop/qcow2.txt of QEMU.
const (
	clusterBits  = 16
	cluster      = 1 << clusterBits
	tableEntries = cluster / 8 // of an L1, an L2 and the table of reference blocks
	countEntries = cluster / 2 // of a reference block
	headerLength = 104
	copied       = 1 << 63 // the cluster has one reference, so a guest may write to it in place

	// maxQCOW2 bounds the tables that are held in memory: 8 MiB of L2 entries for 64 GiB.
	maxQCOW2 = 1 << 40
)

// WriteQCOW2 writes the image as qcow2, its size rounded up to whole sectors of 512 bytes. Clusters of zeros are left out.
//
// The header comes first, then the data in the order of the image, then the tables that say where it is. The file is a
// qcow2 file only when all of it is written, for the header is written last.
func (m *Image) WriteQCOW2(ctx context.Context, f File) error {
	if err := m.check(); err != nil {
		return err
	}
	if m.size > maxQCOW2 {
		return fmt.Errorf("an image of %d bytes is too large for qcow2 as it is written here (%d)", m.size, int64(maxQCOW2))
	}
	q := qcow2{f: f, next: 1, l2: make(map[int64][]uint64)} // cluster 0 is the header's
	if err := q.data(ctx, m); err != nil {
		return err
	}
	return q.tables((m.size + 511) &^ 511)
}

// A qcow2 is a file that is being written.
type qcow2 struct {
	f    File
	next int64              // the first cluster that is free
	l2   map[int64][]uint64 // entries by the index of the table
}

// data writes the clusters of the image that are not zero.
func (q *qcow2) data(ctx context.Context, m *Image) error {
	buffer := make([]byte, cluster)
	for at := range m.blocks(cluster) {
		if err := ctx.Err(); err != nil {
			return err
		}
		clear(buffer) // the last cluster may be short
		if _, err := m.ReadAt(buffer, at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if zero(buffer) {
			continue
		}
		index := at / cluster
		table := q.l2[index/tableEntries]
		if table == nil {
			table = make([]uint64, tableEntries)
			q.l2[index/tableEntries] = table
		}
		table[index%tableEntries] = uint64(q.next)<<clusterBits | copied
		if err := q.put(buffer); err != nil {
			return err
		}
	}
	return nil
}

// put writes whole clusters, of which the last may be given short, to the next free ones.
func (q *qcow2) put(data []byte) error {
	if _, err := q.f.WriteAt(data, q.next<<clusterBits); err != nil {
		return err
	}
	q.next += clusters(int64(len(data)))
	return nil
}

func clusters(size int64) int64 { return (size + cluster - 1) / cluster }

// tables writes the L2 tables, the L1 table, the reference counts and the header.
func (q *qcow2) tables(size int64) error {
	l1 := make([]uint64, (clusters(size)+tableEntries-1)/tableEntries)
	for i := range l1 {
		if table := q.l2[int64(i)]; table != nil {
			l1[i] = uint64(q.next)<<clusterBits | copied
			if err := q.put(bigEndian(table)); err != nil {
				return err
			}
		}
	}
	l1At := q.next
	if err := q.put(bigEndian(l1)); err != nil {
		return err
	}
	blocks, table := q.countBlocks()
	entries := make([]uint64, blocks)
	for i := range entries {
		entries[i] = uint64(q.next+table+int64(i)) << clusterBits
	}
	tableAt, used := q.next, q.next+table+blocks
	if err := q.put(bigEndian(entries)); err != nil {
		return err
	}
	counts := make([]byte, blocks*cluster)
	for i := range used {
		binary.BigEndian.PutUint16(counts[2*i:], 1)
	}
	if err := q.put(counts); err != nil {
		return err
	}
	if err := q.f.Truncate(q.next << clusterBits); err != nil {
		return err
	}
	_, err := q.f.WriteAt(header(size, len(l1), l1At, tableAt, table), 0)
	return err
}

// countBlocks returns how many clusters of reference counts, and how many for the table of these, it takes to count all
// clusters, they themselves included.
func (q *qcow2) countBlocks() (blocks, table int64) {
	for {
		used := q.next + table + blocks
		b := (used + countEntries - 1) / countEntries
		t := clusters(8 * b)
		if b == blocks && t == table {
			return blocks, table
		}
		blocks, table = b, t
	}
}

func header(size int64, l1Size int, l1At, tableAt, tableClusters int64) []byte {
	h := make([]byte, 0, headerLength)
	be := binary.BigEndian
	h = append(h, "QFI\xfb"...)
	h = be.AppendUint32(h, 3)                            // version
	h = be.AppendUint64(h, 0)                            // no backing file
	h = be.AppendUint32(h, 0)                            // its name's length
	h = be.AppendUint32(h, clusterBits)                  //
	h = be.AppendUint64(h, uint64(size))                 //
	h = be.AppendUint32(h, 0)                            // no encryption
	h = be.AppendUint32(h, uint32(l1Size))               // entries
	h = be.AppendUint64(h, uint64(l1At)<<clusterBits)    //
	h = be.AppendUint64(h, uint64(tableAt)<<clusterBits) // of the reference counts
	h = be.AppendUint32(h, uint32(tableClusters))        //
	h = be.AppendUint32(h, 0)                            // snapshots
	h = be.AppendUint64(h, 0)                            // and where they are
	h = be.AppendUint64(h, 0)                            // incompatible features
	h = be.AppendUint64(h, 0)                            // compatible features
	h = be.AppendUint64(h, 0)                            // features that a writer clears
	h = be.AppendUint32(h, 4)                            // 2^4 bits for a reference count
	h = be.AppendUint32(h, headerLength)                 //
	// Eight zero bytes behind it end the list of extensions; the rest of the cluster is zero.
	return h
}

func bigEndian(words []uint64) []byte {
	data := make([]byte, 0, 8*len(words))
	for _, w := range words {
		data = binary.BigEndian.AppendUint64(data, w)
	}
	return data
}
