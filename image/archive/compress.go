package archive

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// A Compression is a format that the kernel unpacks an initramfs from, given CONFIG_RD_ZSTD and its kind.
type Compression string

// The formats that hapax writes. What they cost, with the universal image of Debian's 6.1 cloud kernel (150 modules, 27 MB
// of content) on one emulated CPU that takes 1 ns for each instruction (QEMU -icount): the size, and how much later than
// with a nearly empty image (1.61 s after power-on) a program in it prints its first line.
//
//	none  27.2 MB  0.09 s
//	lz4   10.1 MB  0.19 s
//	zstd   6.9 MB  0.38 s
//	gzip   8.0 MB  0.47 s
//	xz     7.0 MB  2.53 s
//
// So lz4 is the default: next to such a CPU, zstd's 3 MB less pay only where the image is read at less than 16 MB a second.
const (
	Zstd Compression = "zstd"
	XZ   Compression = "xz"
	Gzip Compression = "gzip"
	LZ4  Compression = "lz4"
	None Compression = "none"
)

// Compressions returns the formats that hapax writes, the default first.
func Compressions() []Compression { return []Compression{LZ4, Zstd, XZ, Gzip, None} }

// ParseCompression returns the format of a name such as "zstd".
func ParseCompression(name string) (Compression, error) {
	if c := Compression(name); slices.Contains(Compressions(), c) {
		return c, nil
	}
	var names []string
	for _, c := range Compressions() {
		names = append(names, string(c))
	}
	return "", fmt.Errorf("unknown compression %q: use %s", name, strings.Join(names, ", "))
}

// UnmarshalText reads a name as ParseCompression does.
func (c *Compression) UnmarshalText(text []byte) (err error) {
	*c, err = ParseCompression(string(text))
	return err
}

// window is how far back zstd and xz may refer: every kernel's zstd takes 8 MiB.
const window = 8 << 20

// NewCompressor returns a writer that compresses to w as the kernel wants it. The output depends on the input alone: one
// thread, no time stamp, no file name. Close ends the stream but does not close w. It may be a Splitter.
func NewCompressor(w io.Writer, c Compression) (io.WriteCloser, error) {
	switch c {
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(window))
	case XZ:
		return newXZWriter(w)
	case Gzip:
		// Level 9 takes ten times as long and compresses modules no better (54.6 MB to 15.44 MB, level 8 to 15.39 MB).
		z, err := gzip.NewWriterLevel(w, 8)
		if err != nil {
			return nil, err
		}
		z.ModTime = time.Unix(0, 0) // "no time stamp"; the zero Time would be written as a date
		return z, nil
	case LZ4:
		return newLZ4Writer(w)
	case None:
		return nopCloser{w}, nil
	}
	return nil, fmt.Errorf("unknown compression %q", string(c))
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
