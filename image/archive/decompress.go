package archive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxWindow bounds the memory that a compressed part may ask for. zstd --ultra and xz -9 stay below.
const maxWindow = 128 << 20

// magics tells formats apart by their first bytes, as lib/decompress.c does. Those without a Compression constant are
// known so that the error can name them.
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
		{"bzip2", "BZh"},
		{"lzma", "\x5d\x00\x00"},
		{"lzop", "\x89LZO"},
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

// newDecompressor returns a reader of the compressed part at the start of r. Of the formats, gzip and lz4 leave r
// just behind the part; the others read on and take anything but another stream of their own for damage.
func newDecompressor(r *bufio.Reader, c Compression) (io.ReadCloser, error) {
	switch c {
	case Zstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case XZ:
		z, err := xz.ReaderConfig{SingleStream: true}.NewReader(newXZGuard(r))
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
	}
	return nil, fmt.Errorf("compressed with %s: hapax reads zstd, xz, gzip, lz4 and none", c)
}

// errTruncated is io.ErrUnexpectedEOF with a remedy.
var errTruncated = fmt.Errorf("%w: the file is cut short: copy or build it again", io.ErrUnexpectedEOF)

// truncated turns the end of data inside of something into errTruncated.
func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTruncated
	}
	return err
}
