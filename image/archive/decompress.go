package archive

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
	"github.com/ulikunitz/xz/lzma"
)

// maxWindow bounds the memory that a compressed part may ask for. zstd --ultra and xz -9 stay below.
const maxWindow = 128 << 20

// Formats that the kernel takes, too, and that hapax only reads.
const (
	bzip2Format Compression = "bzip2"
	lzmaFormat  Compression = "lzma"
	lzopFormat  Compression = "lzop"
)

// magics tells formats apart by their first bytes, as lib/decompress.c does. The last one is known so that the error can
// name it.
func magics() []struct {
	format Compression
	magic  string
} {
	return []struct {
		format Compression
		magic  string
	}{
		{Zstd, "\x28\xb5\x2f\xfd"},
		{XZ, "\xfd7zXZ\x00"},
		{Gzip, "\x1f\x8b"},
		{LZ4, "\x02\x21\x4c\x18"},
		{None, "07070"},
		{bzip2Format, "BZh"},
		{lzmaFormat, "\x5d\x00\x00"},
		{lzopFormat, "\x89LZO"},
		{"lz4 (frame format, which no kernel reads)", "\x04\x22\x4d\x18"},
	}
}

// detect returns the format that b, up to eight bytes of it, begin.
func detect(b []byte) (Compression, bool) {
	for _, m := range magics() {
		if bytes.HasPrefix(b, []byte(m.magic)) {
			return m.format, true
		}
	}
	return "", false
}

// newDecompressor returns a reader of the compressed part at the start of r, which it leaves just behind the part.
func newDecompressor(r *bufio.Reader, c Compression) (io.ReadCloser, error) {
	switch c {
	case Zstd:
		z, err := zstd.NewReader(newZstdGuard(r), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case XZ:
		z, err := xz.NewReader(newXZGuard(r), maxWindow)
		return io.NopCloser(z), err
	case Gzip:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		return z, nil
	case LZ4:
		return newLZ4Reader(r)
	case lzopFormat:
		return newLZOPReader(r)
	case bzip2Format:
		return newBzip2Reader(r), nil
	case lzmaFormat:
		return newLZMAReader(r)
	}
	return nil, fmt.Errorf("compressed with %s", c)
}

// newLZMAReader returns a reader of the old format of lzma, whose header is a byte of properties, the size of the
// dictionary and that of the content.
func newLZMAReader(r *bufio.Reader) (io.ReadCloser, error) {
	b, err := r.Peek(lzma.HeaderLen)
	if err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(b[1:]) > maxWindow {
		return nil, errWindow
	}
	z, err := lzma.NewReader(r)
	return io.NopCloser(z), err
}

// Decompress returns a reader of what r holds, compressed in any format that a Reader knows or plain, and tells which.
// It is for single files such as modules and firmware, and ends behind the first compressed stream. What is only a few
// bytes long is plain.
func Decompress(r io.Reader) (io.ReadCloser, Compression, error) {
	in := bufio.NewReaderSize(r, bufferSize)
	b, _ := in.Peek(8)
	format, known := detect(b)
	if !known || format == None {
		return io.NopCloser(in), None, nil
	}
	z, err := newDecompressor(in, format)
	if err != nil {
		return nil, format, fmt.Errorf("%s: %w", format, truncated(err))
	}
	return z, format, nil
}

// errTruncated is io.ErrUnexpectedEOF with a remedy.
var errTruncated = fmt.Errorf("%w: the file is cut short: copy or build it again", io.ErrUnexpectedEOF)

// truncated turns the end of data inside of something into errTruncated.
func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, xz.ErrBuf) {
		return errTruncated
	}
	return err
}
