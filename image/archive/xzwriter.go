package archive

import (
	"encoding/binary"
	"hash"
	"hash/crc32"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// An xzWriter writes one xz stream of one block, as the kernel's decoder takes it: a single filter, and CRC32 for the usual CRC64,
// which it does not know (xz file format 1.2; lib/xz/xz_dec_stream.c).
//
// The writer of the xz package cannot be told where a file begins that is packed already. LZMA2 decides for each 64 kB whether to
// encode or to store them, and a few headers of the archive among them are enough for encoding to be a hundredth shorter: the
// packed bytes then go through the decoder one bit at a time.
type xzWriter struct {
	w       *countingWriter
	lzma    *lzma.Writer2
	check   hash.Hash32 // of the content
	content int64
}

const xzFlags = "\x00\x01" // CRC32

func newXZWriter(w io.Writer) (*xzWriter, error) {
	x := &xzWriter{w: &countingWriter{w: w}, check: crc32.NewIEEE()}
	le := binary.LittleEndian
	head := append([]byte("\xfd7zXZ\x00"), xzFlags...)
	head = le.AppendUint32(head, crc32.ChecksumIEEE([]byte(xzFlags)))
	const dictionary = 22 // 8 MiB, which is window: see dictionarySize
	block := []byte{blockHeaderSize/4 - 1, 0, 0x21, 1, dictionary, 0, 0, 0}
	block = le.AppendUint32(block, crc32.ChecksumIEEE(block))
	if _, err := x.w.Write(append(head, block...)); err != nil {
		return nil, err
	}
	x.w.n = blockHeaderSize // from here on that of the block
	var err error
	x.lzma, err = lzma.Writer2Config{DictCap: window}.NewWriter2(x.w)
	return x, err
}

const blockHeaderSize = 12

func (x *xzWriter) Write(p []byte) (int, error) {
	n, err := x.lzma.Write(p)
	x.check.Write(p[:n])
	x.content += int64(n)
	return n, err
}

// Split ends the current chunk, so that what follows is encoded or stored by what it is itself.
func (x *xzWriter) Split() error { return x.lzma.Flush() }

// Close writes what is left, the index and the footer.
func (x *xzWriter) Close() error {
	if err := x.lzma.Close(); err != nil {
		return err
	}
	le := binary.LittleEndian
	unpadded := x.w.n + crc32.Size
	tail := make([]byte, pad4(x.w.n))
	tail = le.AppendUint32(tail, x.check.Sum32())
	index := []byte{0, 1} // one block
	index = binary.AppendUvarint(index, uint64(unpadded))
	index = binary.AppendUvarint(index, uint64(x.content))
	index = append(index, make([]byte, pad4(int64(len(index))))...)
	index = le.AppendUint32(index, crc32.ChecksumIEEE(index))
	footer := append(le.AppendUint32(nil, uint32(len(index)/4-1)), xzFlags...)
	tail = append(tail, index...)
	tail = le.AppendUint32(tail, crc32.ChecksumIEEE(footer))
	tail = append(append(tail, footer...), "YZ"...)
	_, err := x.w.Write(tail)
	return err
}
