package medium

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync/atomic"
)

// A volume is a FAT12, FAT16 or FAT32 file system (Microsoft's FAT specification, 1.03).
type volume struct {
	r        *io.SectionReader
	bits     int   // of an entry of the table: 12, 16 or 32
	table    int64 // where the first table begins
	tableEnd int64
	cluster  int64  // bytes
	data     int64  // where cluster 2 begins
	clusters uint32 // how many there are, the first of which is 2
	root     uint32 // the first cluster of the root folder; 0 if that lies between table and data
	rootAt   int64
	rootSize int64
	steps    atomic.Int64 // along chains so far
}

// maxSteps bounds the clusters that are looked at on one medium: thousands of files may share one long chain. It is enough for all
// of a partition of 16 GiB with the smallest clusters.
const maxSteps = 32 << 20

func openVolume(r *io.SectionReader) (*volume, error) {
	b := make([]byte, 512)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("its EFI system partition is cut short: %w", err)
	}
	le := binary.LittleEndian
	sector, perCluster := int64(le.Uint16(b[11:])), int64(b[13])
	reserved, tables, rootEntries := int64(le.Uint16(b[14:])), int64(b[16]), int64(le.Uint16(b[17:]))
	sectors, tableSectors := int64(le.Uint16(b[19:])), int64(le.Uint16(b[22:]))
	if sectors == 0 {
		sectors = int64(le.Uint32(b[32:]))
	}
	if tableSectors == 0 {
		tableSectors = int64(le.Uint32(b[36:]))
	}
	rootSectors := int64(0)
	if sector > 0 {
		rootSectors = (rootEntries*dirEntry + sector - 1) / sector
	}
	dataSector := reserved + tables*tableSectors + rootSectors
	switch {
	case b[510] != 0x55 || b[511] != 0xaa, sector < 512 || sector > 4096 || sector&(sector-1) != 0,
		perCluster == 0 || perCluster&(perCluster-1) != 0, reserved == 0, tables == 0, tableSectors == 0:
		return nil, errors.New("its EFI system partition holds no FAT file system")
	case sectors*sector > r.Size() || dataSector > sectors:
		return nil, errors.New("the file system of its EFI system partition ends behind the partition")
	}
	v := &volume{
		r: r, table: reserved * sector, tableEnd: (reserved + tableSectors) * sector, cluster: sector * perCluster,
		data: dataSector * sector, clusters: uint32((sectors - dataSector) / perCluster),
		rootAt: (reserved + tables*tableSectors) * sector, rootSize: rootEntries * dirEntry,
	}
	switch { // as UEFI firmware and Linux have it, whatever FAT32's least number of clusters is
	case le.Uint16(b[22:]) == 0:
		v.bits, v.root = 32, le.Uint32(b[44:])
	case v.clusters < 4085:
		v.bits = 12
	default:
		v.bits = 16
	}
	return v, nil
}

var errChain = errors.New("its clusters do not lead to its end: the file system is damaged")

// A walk follows a chain. It keeps the piece of the table that it has read last.
type walk struct {
	v    *volume
	at   int64 // of buf; a multiple of its size
	buf  [4096 + 4]byte
	size int64 // of what is in buf; 0 before the first
}

// entry returns the bytes of the table at an offset of the volume.
func (w *walk) entry(at, length int64) ([]byte, error) {
	const piece = int64(len(w.buf)) - 4 // an entry may reach into the next one
	if begin := at / piece * piece; w.size == 0 || begin != w.at {
		w.at, w.size = begin, min(int64(len(w.buf)), w.v.tableEnd-begin)
		if _, err := w.v.r.ReadAt(w.buf[:w.size], begin); err != nil {
			w.size = 0
			return nil, err
		}
	}
	return w.buf[at-w.at:][:length], nil
}

// next returns the cluster that follows one, 0 behind the last.
func (w *walk) next(cluster uint32) (uint32, error) {
	v := w.v
	if v.steps.Add(1) > maxSteps {
		return 0, errors.New("its files have more clusters than there can be")
	}
	at, length := v.table+int64(cluster)*int64(v.bits)/8, int64(v.bits+7)/8
	if at+length > v.tableEnd {
		return 0, errChain
	}
	raw, err := w.entry(at, length)
	if err != nil {
		return 0, err
	}
	b := make([]byte, 4)
	copy(b, raw)
	n := binary.LittleEndian.Uint32(b)
	switch v.bits {
	case 12:
		n = n >> (cluster & 1 * 4) & 0xfff
	case 32:
		n &= 0xfffffff
	}
	if n >= 1<<min(v.bits, 28)-8 {
		return 0, nil
	}
	if !v.valid(n) {
		return 0, errChain
	}
	return n, nil
}

func (v *volume) valid(cluster uint32) bool { return cluster >= 2 && cluster-2 < v.clusters }

// maxRuns bounds what the pieces of one file take in memory.
const maxRuns = 1 << 20

// chain returns the content that begins with a cluster: size bytes of it or, if size is negative, all of it, at most limit bytes.
func (v *volume) chain(first uint32, size, limit int64) (*io.SectionReader, error) {
	var runs []run
	var length int64
	w := &walk{v: v}
	for cluster := first; (size < 0 || length < size) && cluster != 0; {
		if !v.valid(cluster) || length >= limit {
			return nil, errChain
		}
		at := v.data + int64(cluster-2)*v.cluster
		if last := len(runs) - 1; last >= 0 && runs[last].at+runs[last].length == at {
			runs[last].length += v.cluster
		} else if len(runs) < maxRuns {
			runs = append(runs, run{length, at, v.cluster})
		} else {
			return nil, errors.New("it lies in too many pieces")
		}
		length += v.cluster
		var err error
		if cluster, err = w.next(cluster); err != nil {
			return nil, err
		}
	}
	if size < 0 {
		size = length
	}
	if length < size {
		return nil, errChain
	}
	if len(runs) == 1 {
		return io.NewSectionReader(v.r, runs[0].at, size), nil
	}
	return io.NewSectionReader(&scattered{v.r, runs}, 0, size), nil
}

// content returns the content of a file.
func (v *volume) content(f File) (*io.SectionReader, error) {
	if f.Size > v.r.Size() {
		return nil, errChain
	}
	return v.chain(f.first, f.Size, v.r.Size())
}

// A run is a piece of a file that lies in one piece.
type run struct{ from, at, length int64 } // in the file, in the volume, bytes

// scattered is a file in several pieces.
type scattered struct {
	r    io.ReaderAt
	runs []run
}

// ReadAt implements io.ReaderAt.
func (s *scattered) ReadAt(p []byte, off int64) (n int, err error) {
	i := sort.Search(len(s.runs), func(i int) bool { return s.runs[i].from+s.runs[i].length > off })
	for ; n < len(p) && i < len(s.runs); i++ {
		r := s.runs[i]
		skip := off + int64(n) - r.from
		part := p[n:min(int64(len(p)), int64(n)+r.length-skip)]
		m, err := s.r.ReadAt(part, r.at+skip)
		n += m
		if err != nil && m < len(part) {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
