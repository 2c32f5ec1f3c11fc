package modload

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// Bounds on what a compressed module may ask for. The largest module of Debian
// has 19 MiB, the densest is packed 24:1, and kernels pack with windows of 1
// to 8 MiB. Memory for a window is taken on the word of a header, but not
// touched before data fills it.
const (
	maxUnpacked = 256 << 20
	maxRatio    = 256
	slack       = 1 << 20 // of the ratio, for small files
	maxWindow   = 64 << 20
)

var errBomb = errors.New("unpacks to more than any module has: damaged, or made to exhaust memory")

// decompress writes what src holds to dst and returns its length. compression
// is as compressionOf names it, packed the length of src. It writes at most one
// byte more than the bounds above allow, and then returns an error.
func decompress(dst io.Writer, compression string, src io.Reader, packed int64) (int64, error) {
	r, err := newDecoder(compression, src)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	limit := min(maxUnpacked, slack+maxRatio*packed)
	n, err := io.Copy(dst, io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return 0, err
	case n > limit:
		return 0, errBomb
	case n == 0:
		return 0, errors.New("nothing inside")
	}
	return n, nil
}

// newDecoder is the seam between the loader and the codecs, which were chosen
// by size and speed: adr/0001-codecs.md.
func newDecoder(compression string, src io.Reader) (io.ReadCloser, error) {
	switch compression {
	case "gzip":
		return gzip.NewReader(src)
	case "xz":
		r, err := xz.NewReader(src, maxWindow)
		return io.NopCloser(r), err
	case "zstd":
		r, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return r.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("compression %q: %w", compression, errors.ErrUnsupported)
}
