package archive

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
)

// An xzGuard passes one xz stream on and stops it before a block whose dictionary exceeds maxWindow: the decoder would
// allocate up to 4 GiB on the word of a header. It walks the headers of blocks and LZMA2 chunks (xz file format 1.2,
// sections 2 and 3) and leaves every other check to the decoder.
type xzGuard struct {
	r     *bufio.Reader
	state func() error // looks at what comes next and sets pass; nil: nothing left to look at
	pass  int64        // bytes to hand out before the next look
	check int64        // length of a block's checksum
	block int64        // bytes of the current block's LZMA2 data so far
	seen  int          // block headers
}

func newXZGuard(r *bufio.Reader) *xzGuard {
	g := &xzGuard{r: r}
	g.state = g.stream
	return g
}

var errWindow = fmt.Errorf("asks for a window above %d MiB", maxWindow>>20)

func (g *xzGuard) Read(p []byte) (int, error) {
	for g.pass == 0 && g.state != nil {
		if err := g.state(); err != nil {
			return 0, err
		}
	}
	if g.state == nil {
		return g.r.Read(p)
	}
	n, err := g.r.Read(p[:min(int64(len(p)), g.pass)])
	g.pass -= int64(n)
	return n, err
}

// stream looks at the stream header: magic, flags, CRC32.
func (g *xzGuard) stream() error {
	b, _ := g.r.Peek(12)
	if len(b) < 12 {
		g.state = nil
		return nil
	}
	if id := b[7] & 0xf; id > 0 {
		g.check = 4 << ((id - 1) / 3)
	}
	g.pass, g.state = 12, g.blockHeader
	return nil
}

// blockHeader looks at a block header, or at the index that follows the last block.
func (g *xzGuard) blockHeader() error {
	size, _ := g.r.Peek(1)
	if len(size) == 0 || size[0] == 0 {
		g.state = nil
		return nil
	}
	b, _ := g.r.Peek((int(size[0]) + 1) * 4)
	fields := bytes.NewReader(b[min(2, len(b)):])
	g.pass, g.state, g.block = int64(len(b)), g.chunk, 0
	if len(b) < 2 {
		g.state = nil
		return nil
	}
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
		g.block++
		g.pass, g.state = 1+(4-g.block%4)%4+g.check, g.blockHeader
		return nil
	case len(b) < 5:
		g.state = nil
		return nil
	case b[0] < 0x80: // stored
		g.pass = 3 + 1 + (int64(b[1])<<8 | int64(b[2]))
	default:
		g.pass = 5 + 1 + (int64(b[3])<<8 | int64(b[4]))
		if b[0] >= 0xc0 {
			g.pass++ // new properties
		}
	}
	g.block += g.pass
	return nil
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
