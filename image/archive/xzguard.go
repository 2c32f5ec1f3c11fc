package archive

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
)

// An xzGuard is the stream of one xz stream. It stops before a block whose dictionary exceeds maxWindow: a decoder would
// allocate up to 4 GiB on the word of a header. It walks the headers of blocks and LZMA2 chunks and the index (xz file
// format 1.2, sections 2 to 4).
type xzGuard struct {
	stream
	check   int64 // length of a block's checksum
	length  int64 // of the current block's LZMA2 data, or of the index, so far
	numbers int64 // of the index, not seen yet
	seen    int   // block headers
}

func newXZGuard(r *bufio.Reader) *xzGuard {
	g := &xzGuard{stream: stream{r: r}}
	g.look = g.header
	return g
}

var errWindow = fmt.Errorf("asks for a window above %d MiB", maxWindow>>20)

// header looks at the stream header: magic, flags, CRC32.
func (g *xzGuard) header() error {
	b, _ := g.r.Peek(12)
	if len(b) < 12 {
		g.giveUp()
		return nil
	}
	if id := b[7] & 0xf; id > 0 {
		g.check = 4 << ((id - 1) / 3)
	}
	g.pass, g.look = 12, g.blockHeader
	return nil
}

// blockHeader looks at a block header, or at the index that follows the last block.
func (g *xzGuard) blockHeader() error {
	size, _ := g.r.Peek(1)
	if len(size) == 0 {
		g.giveUp()
		return nil
	}
	if size[0] == 0 {
		g.pass, g.look, g.length = 1, g.indexCount, 1
		return nil
	}
	b, _ := g.r.Peek((int(size[0]) + 1) * 4)
	if len(b) < 2 {
		g.giveUp()
		return nil
	}
	fields := bytes.NewReader(b[2:])
	g.pass, g.look, g.length = int64(len(b)), g.chunk, 0
	g.seen++
	flags := b[1]
	for _, bit := range []byte{0x40, 0x80} { // compressed and uncompressed size
		if flags&bit != 0 {
			readVarint(fields)
		}
	}
	for range flags&3 + 1 {
		id, size := readVarint(fields), readVarint(fields)
		properties := make([]byte, min(size, uint64(fields.Len())))
		if _, err := io.ReadFull(fields, properties); err != nil {
			return err
		}
		const lzma2 = 0x21
		if id == lzma2 && len(properties) == 1 && dictionarySize(properties[0]) > maxWindow {
			return errWindow
		}
	}
	return nil
}

// chunk looks at an LZMA2 chunk header.
func (g *xzGuard) chunk() error {
	b, _ := g.r.Peek(5)
	switch {
	case len(b) > 0 && b[0] == 0: // end of the block: padding to four bytes and the checksum
		g.length++
		g.pass, g.look = 1+pad4(g.length)+g.check, g.blockHeader
		return nil
	case len(b) < 5:
		g.giveUp()
		return nil
	case b[0] < 0x80: // stored
		g.pass = 3 + 1 + (int64(b[1])<<8 | int64(b[2]))
	default:
		g.pass = 5 + 1 + (int64(b[3])<<8 | int64(b[4]))
		if b[0] >= 0xc0 {
			g.pass++ // new properties
		}
	}
	g.length += g.pass
	return nil
}

// indexCount looks at how many blocks the index lists, each with two numbers.
func (g *xzGuard) indexCount() error {
	records := g.number()
	if records != uint64(g.seen) {
		g.giveUp()
		return nil
	}
	g.numbers, g.look = 2*int64(g.seen), g.index
	return nil
}

// index looks at the next number of the index, or at what follows the last: padding, a CRC32 and the footer of the stream.
func (g *xzGuard) index() error {
	if g.numbers > 0 {
		g.numbers--
		g.number()
		return nil
	}
	g.pass, g.look = pad4(g.length)+4+12, nil
	return nil
}

// number passes the next number of the index on and returns it.
func (g *xzGuard) number() uint64 {
	b, _ := g.r.Peek(9)
	r := bytes.NewReader(b)
	n := readVarint(r)
	g.pass = int64(len(b) - r.Len())
	g.length += g.pass
	if g.pass == 0 {
		g.giveUp()
	}
	return n
}

// readVarint reads a number of the xz format, at most nine bytes of seven bits. A cut one gives what was there.
func readVarint(r *bytes.Reader) uint64 {
	var n uint64
	for shift := 0; shift < 63; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return n
		}
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			break
		}
	}
	return n
}

// dictionarySize decodes the property byte of the LZMA2 filter. Values above 40 are invalid and large.
func dictionarySize(b byte) uint64 {
	return uint64(2|b&1) << (b/2 + 11)
}
