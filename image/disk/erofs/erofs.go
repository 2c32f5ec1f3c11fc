// Package erofs lays out a read-only file system with what is in a folder: EROFS as Linux 5.4 and later mount it
// (fs/erofs/erofs_fs.h), uncompressed.
//
// All files belong to root and carry one time, so that the same files give the same bytes for another user too. Hard links
// stay such. Extended attributes are not kept.
package erofs

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"time"

	"hapax/image/sparse"
)

const (
	block       = 4096
	blockBits   = 12
	slot        = 32 // an inode's number is its offset in slots
	inodeSize   = 64
	superOffset = 1024
	superSize   = 128
	magic       = 0xe0f5e1e2

	layoutPlain  = 0 // of a file's data: in blocks
	layoutInline = 2 // whole blocks, and the rest behind the inode

	maxBlocks = 1<<32 - 1
)

// A FileSystem is one that has been laid out.
type FileSystem struct {
	Image   *sparse.Image
	Private bool // it holds a file that not everybody may read
}

// New lays out a file system with the content of a folder. Files are read when the image is. It reads them all once, for the
// file system's UUID is derived from them.
func New(dir string, stamp time.Time) (*FileSystem, error) {
	t, err := scan(dir)
	if err != nil {
		return nil, err
	}
	v := &volume{stamp: stamp, meta: superOffset + superSize}
	for _, n := range t.nodes {
		v.placeInode(n)
	}
	next := ceil(v.meta)
	for _, n := range t.nodes {
		n.firstBlock = next
		next += n.plain() / block
	}
	if next > maxBlocks {
		return nil, fmt.Errorf("erofs: %s needs %d blocks: there can be %d", dir, next, int64(maxBlocks))
	}
	v.image = sparse.New(next * block)
	private := false
	for i, n := range t.nodes {
		private = private || n.mode.IsRegular() && n.secret()
		v.write(n, i+1)
	}
	sum, err := v.image.Sum()
	if err != nil {
		return nil, fmt.Errorf("erofs: read %s: %w", dir, err)
	}
	v.image.Put(superOffset, v.super(t.nodes[0], len(t.nodes), next, [16]byte(sum[:])))
	return &FileSystem{Image: v.image, Private: private}, nil
}

// ceil returns how many blocks n bytes take.
func ceil(n int64) int64 { return (n + block - 1) / block }

// A volume is a file system that is being laid out.
type volume struct {
	image *sparse.Image
	stamp time.Time
	meta  int64 // offset of what comes next in the part with the inodes
}

// placeInode gives a node the place for its inode and the rest of its data, within one block.
func (v *volume) placeInode(n *node) {
	size := inodeSize + n.tail()
	if v.meta%block+size > block {
		v.meta = ceil(v.meta) * block
	}
	n.inode = v.meta
	v.meta += (size + slot - 1) &^ (slot - 1)
}

// write writes a node's inode and data.
func (v *volume) write(n *node, number int) {
	data := n.content
	switch n.mode.Type() {
	case fs.ModeDir:
		data = bytesReader(n.directory())
	case fs.ModeSymlink:
		data = bytesReader([]byte(n.link))
	}
	if data != nil {
		plain := n.plain()
		v.image.PutReader(n.firstBlock*block, io.NewSectionReader(data, 0, min(plain, n.size)))
		v.image.PutReader(n.inode+inodeSize, io.NewSectionReader(data, min(plain, n.size), n.tail()))
	}
	layout := uint16(layoutPlain)
	if n.tail() > 0 {
		layout = layoutInline
	}
	place := uint32(n.firstBlock)
	if n.mode&fs.ModeDevice != 0 {
		place = n.device
	}
	le := binary.LittleEndian
	i := make([]byte, 0, inodeSize)
	i = le.AppendUint16(i, layout<<1|1) // the long form of an inode
	i = le.AppendUint16(i, 0)           // extended attributes
	i = le.AppendUint16(i, unixMode(n.mode))
	i = le.AppendUint16(i, 0)
	i = le.AppendUint64(i, uint64(n.size))
	i = le.AppendUint32(i, place)
	i = le.AppendUint32(i, uint32(number))
	i = le.AppendUint64(i, 0) // user and group
	i = le.AppendUint64(i, uint64(v.stamp.Unix()))
	i = le.AppendUint32(i, 0) // nanoseconds
	i = le.AppendUint32(i, n.links)
	v.image.Put(n.inode, i)
}

// super returns the superblock.
func (v *volume) super(root *node, inodes int, blocks int64, uuid [16]byte) []byte {
	le := binary.LittleEndian
	s := make([]byte, superSize)
	le.PutUint32(s, magic)
	s[12] = blockBits
	le.PutUint16(s[14:], uint16(number(root.inode))) // it is the first, so 16 bits hold it
	le.PutUint64(s[16:], uint64(inodes))
	le.PutUint64(s[24:], uint64(v.stamp.Unix()))
	le.PutUint32(s[36:], uint32(blocks))
	uuid[6] = uuid[6]&0x0f | 0x80 // a version 8 of RFC 9562
	uuid[8] = uuid[8]&0x3f | 0x80
	copy(s[48:], uuid[:])
	return s
}

// number returns the number of the inode at an offset.
func number(at int64) uint64 { return uint64(at / slot) }
