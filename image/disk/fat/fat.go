// Package fat lays out FAT32 file systems with given files, for EFI system partitions.
//
// It is Microsoft's FAT32 File System Specification (version 1.03, December 2000) with long names and sectors of 512 to
// 4096 bytes. The same files give the same bytes. Content is not copied: it is read when the image is.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"hapax/image/sparse"
)

// A File is one file of the file system. Its folders need not be named.
type File struct {
	Name    string // with slashes, such as "EFI/BOOT/BOOTX64.EFI"
	Content *io.SectionReader
}

// A Spec says what to lay out.
type Spec struct {
	Files      []File // in any order
	SectorSize int    // 512 (the default), 1024, 2048 or 4096
	Size       int64  // of the partition in bytes; default what the files need, in MiB
	Free       int64  // bytes that stay free at least, if Size is not given
	Hidden     uint32 // sectors of the disk before the partition
	Label      string // up to eleven characters; "" is none
	Serial     uint32
	Time       time.Time // of every file, in UTC; before 1980 is 1980
}

// ErrFull reports that the files need more than Spec.Size.
var ErrFull = errors.New("the files do not fit")

const (
	reserved     = 32 // sectors before the first table
	tables       = 2
	rootCluster  = 2
	infoSector   = 1
	backupSector = 6
	entrySize    = 32

	// A file system with fewer clusters is FAT16, whatever it says itself; a few readers count wrong by up to 16.
	minClusters = 65525 + 16
	// From here on clusters grow, so that the tables stay small.
	manyClusters = 1 << 20
	maxClusters  = 0x0ffffff5 - rootCluster
	mebibyte     = 1 << 20
)

// New lays out a file system.
func New(spec Spec) (*sparse.Image, error) {
	if spec.SectorSize == 0 {
		spec.SectorSize = 512
	}
	if s := spec.SectorSize; s < 512 || s > 4096 || s&(s-1) != 0 {
		return nil, fmt.Errorf("fat: sectors of %d bytes: use 512, 1024, 2048 or 4096", s)
	}
	label, err := volumeLabel(spec.Label)
	if err != nil {
		return nil, err
	}
	root, err := newTree(spec.Files)
	if err != nil {
		return nil, err
	}
	g, err := spec.geometry(root)
	if err != nil {
		return nil, err
	}
	v := &volume{geometry: g, label: label, stamp: stampOf(spec.Time), image: sparse.New(g.sectors * g.sector)}
	if err := v.place(root); err != nil {
		return nil, err
	}
	v.writeFolder(root, rootCluster)
	v.writeTables()
	v.writeHead(spec)
	return v.image, nil
}

// A geometry says where things are, in sectors and clusters.
type geometry struct {
	sector     int64 // bytes
	perCluster int64 // sectors
	sectors    int64 // in all
	table      int64 // sectors of one table
	clusters   int64
}

func (g geometry) cluster() int64 { return g.sector * g.perCluster }

// at returns the offset of a cluster in bytes.
func (g geometry) at(cluster uint32) int64 {
	return (reserved+tables*g.table)*g.sector + int64(cluster-rootCluster)*g.cluster()
}

// geometry chooses the cluster size and, if none is given, the size of the whole.
func (spec Spec) geometry(root *node) (geometry, error) {
	for perCluster := int64(1); perCluster <= 128; perCluster *= 2 {
		g := geometry{sector: int64(spec.SectorSize), perCluster: perCluster}
		if g.cluster() > 32<<10 {
			break
		}
		need := root.clusters(g.cluster())
		if spec.Size == 0 {
			want := max(need+ceil(spec.Free, g.cluster()), minClusters)
			head := reserved + tables*ceil(4*(want+rootCluster), g.sector)
			g.sectors = ceil((head+want*perCluster)*g.sector, mebibyte) * mebibyte / g.sector
		} else {
			g.sectors = spec.Size / g.sector
		}
		// A table for all sectors is larger than one for those that are left beside it, by less than 1 %.
		g.table = ceil(4*(max(g.sectors-reserved, 0)/perCluster+rootCluster), g.sector)
		g.clusters = (g.sectors - reserved - tables*g.table) / perCluster
		switch {
		case g.clusters > manyClusters && g.cluster() < 32<<10:
			continue
		case g.clusters > maxClusters || g.sectors > 1<<32-1:
			return g, fmt.Errorf("fat: %d bytes are more than FAT32 can hold", g.sectors*g.sector)
		case g.clusters < minClusters-16:
			return g, fmt.Errorf("fat: %d bytes are too few for FAT32 with sectors of %d: use at least %d MiB", spec.Size,
				g.sector, ceil((minClusters+minClusters/50)*g.sector, mebibyte))
		case need > g.clusters:
			return g, fmt.Errorf("fat: %w: they need %d bytes of %d", ErrFull, need*g.cluster(), g.clusters*g.cluster())
		}
		return g, nil
	}
	return geometry{}, fmt.Errorf("fat: %d bytes are more than FAT32 can hold", spec.Size)
}

func ceil(n, unit int64) int64 { return (n + unit - 1) / unit }

// A volume is a file system that is being laid out.
type volume struct {
	geometry
	label string // padded, "" for none
	stamp stamp
	image *sparse.Image
	chain []uint32 // the table's entries from cluster 2 on, as far as they are used
}

// allocate takes the next clusters for a size in bytes and returns the first, 0 for nothing.
func (v *volume) allocate(size int64) uint32 {
	n := ceil(size, v.cluster())
	if n == 0 {
		return 0
	}
	first := uint32(len(v.chain)) + rootCluster
	for i := range n - 1 {
		v.chain = append(v.chain, first+uint32(i)+1)
	}
	v.chain = append(v.chain, endOfChain)
	return first
}

const endOfChain = 0x0fffffff

// place gives every folder and file its clusters, the root first.
func (v *volume) place(n *node) error {
	size := n.size
	if n.children != nil {
		size = n.folderSize()
	} else if size > 1<<32-1 {
		return fmt.Errorf("fat: %s has %d bytes: a file can have 4 GiB less one", n.name, size)
	}
	n.first = v.allocate(size)
	for _, child := range n.children {
		if err := v.place(child); err != nil {
			return err
		}
	}
	if n.content != nil {
		v.image.PutReader(v.at(max(n.first, rootCluster)), n.content)
	}
	return nil
}

// writeTables writes both allocation tables.
func (v *volume) writeTables() {
	table := make([]byte, 0, 4*(len(v.chain)+rootCluster))
	table = binary.LittleEndian.AppendUint32(table, 0x0ffffff8) // the media byte
	table = binary.LittleEndian.AppendUint32(table, endOfChain) // clean, no error
	for _, next := range v.chain {
		table = binary.LittleEndian.AppendUint32(table, next)
	}
	for i := range int64(tables) {
		v.image.Put((reserved+i*v.table)*v.sector, table)
	}
}

// writeHead writes the boot sector and the sector with the free space, and their copies.
func (v *volume) writeHead(spec Spec) {
	boot := make([]byte, v.sector)
	le := binary.LittleEndian
	copy(boot, "\xeb\x58\x90hapax   ")
	le.PutUint16(boot[11:], uint16(v.sector))
	boot[13] = byte(v.perCluster)
	le.PutUint16(boot[14:], reserved)
	boot[16] = tables
	boot[21] = 0xf8             // a fixed disk
	le.PutUint16(boot[24:], 63) // sectors per track and heads: of no meaning, but not 0
	le.PutUint16(boot[26:], 255)
	le.PutUint32(boot[28:], spec.Hidden)
	le.PutUint32(boot[32:], uint32(v.sectors))
	le.PutUint32(boot[36:], uint32(v.table))
	le.PutUint32(boot[44:], rootCluster)
	le.PutUint16(boot[48:], infoSector)
	le.PutUint16(boot[50:], backupSector)
	boot[64] = 0x80 // a fixed disk, again
	boot[66] = 0x29 // the three fields that follow are there
	le.PutUint32(boot[67:], spec.Serial)
	name := v.label
	if name == "" {
		name = "NO NAME    "
	}
	copy(boot[71:], name)
	copy(boot[82:], "FAT32   ")
	copy(boot[90:], "\xf4\xeb\xfd") // who starts it from a BIOS gets a machine that stops: hlt, jmp to it
	le.PutUint16(boot[510:], 0xaa55)

	info := make([]byte, v.sector)
	copy(info, "RRaA")
	copy(info[484:], "rrAa")
	le.PutUint32(info[488:], uint32(v.clusters)-uint32(len(v.chain)))
	le.PutUint32(info[492:], uint32(len(v.chain))+rootCluster)
	le.PutUint32(info[508:], 0xaa550000)
	for _, at := range []int64{0, backupSector} {
		v.image.Put(at*v.sector, boot)
		v.image.Put((at+infoSector)*v.sector, info)
	}
}

// volumeLabel returns a label as FAT stores it, "" for none.
func volumeLabel(label string) (string, error) {
	if label == "" {
		return "", nil
	}
	if len(label) > 11 || strings.Trim(label, shortCharacters+" ") != "" || label[0] == ' ' {
		return "", fmt.Errorf("fat: label %q: use up to eleven of A-Z, 0-9, blank and %s", label, shortCharacters[36:])
	}
	return fmt.Sprintf("%-11s", label), nil
}

// A stamp is a time as FAT stores it: to two seconds, without a zone.
type stamp struct{ date, time uint16 }

func stampOf(t time.Time) stamp {
	t = t.UTC()
	switch {
	case t.Year() < 1980:
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	case t.Year() > 2107:
		t = time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC)
	}
	return stamp{
		date: uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day()),
		time: uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2),
	}
}
