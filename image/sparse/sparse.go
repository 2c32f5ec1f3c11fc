// Package sparse describes large files, such as disks, by their parts that are not zero, and writes them raw, with holes,
// or as qcow2.
package sparse

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
)

// An Image is a file of a fixed size. Parts of it have a content; what lies between them is zero.
//
// It is built by one goroutine. Then, as long as the sources of its parts can be read so, several may read it.
type Image struct {
	size    int64
	parts   []part // by offset once check has been called
	checked bool   // the parts are sorted and checked
}

type part struct {
	at      int64
	content *io.SectionReader
}

func (p part) end() int64 { return p.at + p.content.Size() }

// New returns an image of a size in bytes, all zero.
func New(size int64) *Image { return &Image{size: size} }

// Size returns the size of the whole image in bytes.
func (m *Image) Size() int64 { return m.size }

// Put lays data at an offset. The image keeps data.
func (m *Image) Put(at int64, data []byte) {
	m.PutReader(at, io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))))
}

// PutReader lays a content at an offset. It is read when the image is.
func (m *Image) PutReader(at int64, content *io.SectionReader) {
	if content.Size() > 0 {
		m.parts, m.checked = append(m.parts, part{at, content}), false
	}
}

// PutImage lays the parts of another image at an offset.
func (m *Image) PutImage(at int64, other *Image) {
	for _, p := range other.parts {
		m.PutReader(at+p.at, p.content)
	}
}

// check sorts the parts and makes sure that none of them meets another or the end.
func (m *Image) check() error {
	if m.checked {
		return nil
	}
	slices.SortStableFunc(m.parts, func(a, b part) int { return cmp.Compare(a.at, b.at) })
	end := int64(0)
	for _, p := range m.parts {
		if p.at < end || p.end() > m.size || p.end() < p.at {
			return fmt.Errorf("image of %d bytes: the part of %d at %d meets another or the end", m.size, p.content.Size(), p.at)
		}
		end = p.end()
	}
	m.checked = true
	return nil
}

// errChanged is what a file gives that became shorter after it was measured.
var errChanged = errors.New("a file became shorter while it was read")

// ReadAt implements io.ReaderAt.
func (m *Image) ReadAt(p []byte, at int64) (int, error) {
	if err := m.check(); err != nil {
		return 0, err
	}
	if at < 0 || at >= m.size {
		return 0, io.EOF
	}
	short := at+int64(len(p)) > m.size
	if short {
		p = p[:m.size-at]
	}
	clear(p)
	i, _ := slices.BinarySearchFunc(m.parts, at, func(q part, at int64) int {
		if q.end() <= at {
			return -1
		}
		return 1
	})
	end := at + int64(len(p))
	for ; i < len(m.parts) && m.parts[i].at < end; i++ {
		q := m.parts[i]
		from, to := max(q.at, at), min(q.end(), end)
		n, err := q.content.ReadAt(p[from-at:to-at], from-q.at)
		if int64(n) < to-from {
			if errors.Is(err, io.EOF) {
				err = errChanged
			}
			return 0, err
		}
	}
	if short {
		return len(p), io.EOF
	}
	return len(p), nil
}

// Reader returns the whole image.
func (m *Image) Reader() *io.SectionReader { return io.NewSectionReader(m, 0, m.size) }

// Sum returns a hash of the size and of the parts, where they lie and what they hold.
func (m *Image) Sum() ([sha256.Size]byte, error) {
	if err := m.check(); err != nil {
		return [sha256.Size]byte{}, err
	}
	h := sha256.New()
	number := func(n int64) { h.Write(binary.LittleEndian.AppendUint64(nil, uint64(n))) }
	number(m.size)
	for _, p := range m.parts {
		number(p.at)
		number(p.content.Size())
		n, err := io.Copy(h, io.NewSectionReader(p.content, 0, p.content.Size()))
		if err == nil && n < p.content.Size() {
			err = errChanged
		}
		if err != nil {
			return [sha256.Size]byte{}, err
		}
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// blocks returns the offsets of the blocks of a size that a part touches, in order.
func (m *Image) blocks(size int64) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		next := int64(0)
		for _, p := range m.parts {
			for at := max(next, p.at-p.at%size); at < p.end(); at += size {
				if !yield(at) {
					return
				}
				next = at + size
			}
		}
	}
}

// A File is what an image is written to: a new, empty file.
type File interface {
	io.WriterAt
	Truncate(size int64) error
}

const (
	rawBlock = 1 << 20 // read and written at a time
	hole     = 4 << 10 // a run of so many zeros is left out
)

// WriteRaw writes the image with holes where it is zero.
func (m *Image) WriteRaw(ctx context.Context, f File) error {
	if err := m.check(); err != nil {
		return err
	}
	if err := f.Truncate(m.size); err != nil {
		return err
	}
	buffer := make([]byte, rawBlock)
	for at := range m.blocks(rawBlock) {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := m.ReadAt(buffer, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err := writeRuns(f, buffer[:n], at); err != nil {
			return err
		}
	}
	return nil
}

// writeRuns writes what lies between the holes of a block.
func writeRuns(f File, block []byte, at int64) error {
	for begin := 0; begin < len(block); {
		end := begin
		for end < len(block) && !zero(block[end:min(end+hole, len(block))]) {
			end = min(end+hole, len(block))
		}
		if end > begin {
			if _, err := f.WriteAt(block[begin:end], at+int64(begin)); err != nil {
				return err
			}
		}
		begin = end + hole
	}
	return nil
}

func zero(p []byte) bool {
	for len(p) >= 8 {
		if binary.NativeEndian.Uint64(p) != 0 {
			return false
		}
		p = p[8:]
	}
	return !slices.ContainsFunc(p, func(b byte) bool { return b != 0 })
}
