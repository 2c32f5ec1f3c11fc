// Package modfile reads kernel module files, plain or packed with xz, zstd or gzip, as they lie in a lib/modules/RELEASE.
package modfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// Bounds on what a damaged or hostile file may cost. Debian's largest module, amdgpu, has 27 MB.
const (
	maxPlain  = 512 << 20
	maxWindow = 64 << 20
)

// Open opens the plain content of a module file, whatever its name says.
func Open(file string) (io.ReadCloser, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	r, err := NewReader(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("unpack %s: %w", file, err)
	}
	return &plainFile{r, f}, nil
}

type plainFile struct {
	io.ReadCloser
	file *os.File
}

func (p *plainFile) Close() error { return errors.Join(p.ReadCloser.Close(), p.file.Close()) }

// NewReader returns a reader of the plain content of the module that r gives, at most 512 MiB of it. Close does not close r.
func NewReader(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	magic, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var plain io.ReadCloser
	switch {
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		z, err := xz.NewReader(in, maxWindow)
		if err != nil {
			return nil, err
		}
		plain = io.NopCloser(z)
	case bytes.HasPrefix(magic, []byte("\x28\xb5\x2f\xfd")):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		plain = z.IOReadCloser()
	case bytes.HasPrefix(magic, []byte("\x1f\x8b")):
		if plain, err = gzip.NewReader(in); err != nil {
			return nil, err
		}
	default:
		plain = io.NopCloser(in)
	}
	return &bounded{plain, maxPlain}, nil
}

// bounded is an io.LimitReader that says so.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, fmt.Errorf("more than %d MiB of content", maxPlain>>20)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
