package archive

import (
	"bufio"
	"encoding/binary"
)

// A zstdGuard is the stream of zstd frames that follow one another without a gap, as parallel compressors write them. It
// walks the headers of frames and blocks (RFC 8878, section 3).
type zstdGuard struct {
	stream
	begun    bool // a frame was seen
	checksum bool // of the current frame
}

func newZstdGuard(r *bufio.Reader) *zstdGuard {
	g := &zstdGuard{stream: stream{r: r}}
	g.look = g.frame
	return g
}

// frame looks at the header of a frame, and ends the stream where there is none.
func (g *zstdGuard) frame() error {
	const (
		magic          = 0xfd2fb528
		skippable      = 0x184d2a50 // and the 15 after it
		singleSegment  = 1 << 5
		contentSum     = 1 << 2
		skippableFrame = 8
	)
	b, _ := g.r.Peek(skippableFrame)
	switch {
	case len(b) >= 5 && binary.LittleEndian.Uint32(b) == magic:
		descriptor := b[4]
		g.checksum = descriptor&contentSum != 0
		size := [4]int64{0, 2, 4, 8}[descriptor>>6] // of the field with the content's size
		if descriptor&singleSegment == 0 {
			size++ // the window
		} else if size == 0 {
			size = 1
		}
		dictionary := [4]int64{0, 1, 2, 4}[descriptor&3]
		g.pass, g.look = 4+1+dictionary+size, g.block
	case len(b) >= skippableFrame && binary.LittleEndian.Uint32(b)&^0xf == skippable:
		g.pass = skippableFrame + int64(binary.LittleEndian.Uint32(b[4:]))
	case !g.begun:
		g.giveUp()
	default:
		g.look = nil
	}
	g.begun = true
	return nil
}

// block looks at the header of a block.
func (g *zstdGuard) block() error {
	const (
		last = 1
		rle  = 1 // of the two bits above that
	)
	b, _ := g.r.Peek(3)
	if len(b) < 3 {
		g.giveUp()
		return nil
	}
	header := int64(b[0]) | int64(b[1])<<8 | int64(b[2])<<16
	g.pass = 3 + header>>3
	if header>>1&3 == rle {
		g.pass = 3 + 1 // one byte, which is repeated that often
	}
	if header&last != 0 {
		if g.checksum {
			g.pass += 4
		}
		g.look = g.frame
	}
	return nil
}
