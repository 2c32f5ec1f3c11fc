package archive

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Flags in the header of an lzop file. Each check is of four bytes behind a block's sizes.
const (
	lzopAdlerPlain  = 1 << 0
	lzopAdlerPacked = 1 << 1
	lzopCRCPlain    = 1 << 8
	lzopCRCPacked   = 1 << 9
	lzopFilter      = 1 << 11
)

// maxLZOPBlock bounds a block's content. The kernel reads 256 KiB, lzop writes no more.
const maxLZOPBlock = 256 << 10

// An lzopReader reads one file of lzop, whose blocks are LZO1X streams, as lib/decompress_unlzo.c does: no checksum is
// compared.
type lzopReader struct {
	r              *bufio.Reader
	plain, packed  int64 // bytes of checks of the content, and of a block that is packed
	block          []byte
	content, input []byte // memory of block, and what is unpacked
	done           bool
}

func newLZOPReader(r *bufio.Reader) (io.ReadCloser, error) {
	z := &lzopReader{r: r}
	if err := z.header(); err != nil {
		return nil, err
	}
	return io.NopCloser(z), nil
}

// header reads everything in front of the first block. Versions before 0.940 have no level and a shorter time stamp.
func (z *lzopReader) header() error {
	const newHeader = 0x0940
	b := make([]byte, 9+2+2+2+1) // magic, three versions, method
	if _, err := io.ReadFull(z.r, b); err != nil {
		return err
	}
	level, times := 0, 4+4 // mode and time
	if binary.BigEndian.Uint16(b[9:]) >= newHeader {
		level, times = 1, times+4
	}
	b = make([]byte, level+4)
	if _, err := io.ReadFull(z.r, b); err != nil {
		return err
	}
	flags := binary.BigEndian.Uint32(b[level:])
	if flags&lzopFilter != 0 {
		times += 4
	}
	for bits, field := range map[uint32]*int64{
		lzopAdlerPlain: &z.plain, lzopCRCPlain: &z.plain, lzopAdlerPacked: &z.packed, lzopCRCPacked: &z.packed,
	} {
		if flags&bits != 0 {
			*field += 4
		}
	}
	if _, err := z.r.Discard(times); err != nil {
		return err
	}
	name, err := z.r.ReadByte()
	if err != nil {
		return err
	}
	_, err = z.r.Discard(int(name) + 4)
	return err
}

func (z *lzopReader) Read(p []byte) (int, error) {
	for len(z.block) == 0 {
		if z.done {
			return 0, io.EOF
		}
		if err := z.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, z.block)
	z.block = z.block[n:]
	return n, nil
}

// next reads the next block. A size of 0 is the end.
func (z *lzopReader) next() error {
	content, err := z.number()
	if err != nil || content == 0 {
		z.done = err == nil
		return err
	}
	size, err := z.number()
	if err != nil {
		return err
	}
	if content > maxLZOPBlock || size > content || size == 0 {
		return fmt.Errorf("a block of %d bytes with %d of content: at most %d are possible", size, content, maxLZOPBlock)
	}
	checks := z.plain
	if size < content {
		checks += z.packed
	}
	if _, err := z.r.Discard(int(checks)); err != nil {
		return err
	}
	if z.input == nil {
		z.input, z.content = make([]byte, maxLZOPBlock), make([]byte, 0, maxLZOPBlock)
	}
	if _, err := io.ReadFull(z.r, z.input[:size]); err != nil {
		return err
	}
	if size == content {
		z.block = z.input[:size]
		return nil
	}
	z.block, err = unpackLZO(z.content[:0:content], z.input[:size])
	if err == nil && len(z.block) != int(content) {
		err = errLZO
	}
	return err
}

func (z *lzopReader) number() (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(z.r, b[:])
	return binary.BigEndian.Uint32(b[:]), err
}

var errLZO = errors.New("damaged LZO data")

// unpackLZO appends the content of an LZO1X stream to dst, never beyond its capacity. The format is described in the
// kernel's Documentation/staging/lzo.rst, whose names are used here.
func unpackLZO(dst, src []byte) ([]byte, error) {
	in := bytes.NewReader(src)
	state := 0 // literals that the last instruction copied; 4: or more
	if len(src) > 0 && src[0] > 17 {
		_, _ = in.ReadByte()
		n := int(src[0]) - 17
		state = min(n, 4)
		var err error
		if dst, err = literals(dst, in, n); err != nil {
			return dst, err
		}
	}
	for {
		code, err := in.ReadByte()
		if err != nil {
			return dst, errLZO
		}
		if code < 16 && state == 0 {
			if dst, err = literals(dst, in, 3+runLength(in, int(code), 15)); err != nil {
				return dst, err
			}
			state = 4
			continue
		}
		length, distance, after, err := match(in, code, state)
		if err != nil {
			return dst, err
		}
		if length == 0 { // the end
			return dst, nil
		}
		if distance > len(dst) || length > cap(dst)-len(dst) {
			return dst, errLZO
		}
		for range length { // the two may overlap
			dst = append(dst, dst[len(dst)-distance])
		}
		if dst, err = literals(dst, in, after); err != nil {
			return dst, err
		}
		state = after
	}
}

// match decodes an instruction to repeat length bytes from a distance, with up to three literals after them. A length of
// 0 is the end of the stream.
func match(in *bytes.Reader, code byte, state int) (length, distance, after int, err error) {
	c := int(code)
	var far [2]byte
	switch {
	case c >= 64: // a third byte has the upper bits
		length, distance = 3+c>>5&1, c>>2&7+1
		if c >= 128 {
			length = 5 + c>>5&3
		}
		h, err := in.ReadByte()
		return length, distance + int(h)<<3, c & 3, err
	case c >= 32:
		length, distance = 2+runLength(in, c&31, 31), 1
	case c >= 16:
		length, distance = 2+runLength(in, c&7, 7), 16384+c>>3&1<<14
	default:
		length, distance = 2, c>>2+1
		if state == 4 {
			length, distance = 3, c>>2+2049
		}
		h, err := in.ReadByte()
		return length, distance + int(h)<<2, c & 3, err
	}
	if _, err := io.ReadFull(in, far[:]); err != nil {
		return 0, 0, 0, errLZO
	}
	low := int(binary.LittleEndian.Uint16(far[:]))
	distance += low >> 2
	if c < 32 && distance == 16384 {
		length = 0
	}
	return length, distance, low & 3, nil
}

// runLength returns bits, or if they are 0 what the bytes that follow say: 255 for each zero, then the last, then most.
func runLength(in *bytes.Reader, bits, most int) int {
	if bits != 0 {
		return bits
	}
	n := most
	for {
		b, err := in.ReadByte()
		if err != nil || b != 0 {
			return n + int(b)
		}
		n += 255
	}
}

// literals appends the next n bytes of in to dst.
func literals(dst []byte, in *bytes.Reader, n int) ([]byte, error) {
	if n > in.Len() || n > cap(dst)-len(dst) {
		return dst, errLZO
	}
	at := len(dst)
	dst = dst[:at+n]
	_, err := io.ReadFull(in, dst[at:])
	return dst, err
}
