package archive

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"io"
)

// A bzip2Reader reads bzip2 streams, one joined to the other, and leaves what follows them. The library expects another stream
// there, and reads two bytes to see whether it is one.
type bzip2Reader struct {
	in *lookBack
	z  io.Reader
}

func newBzip2Reader(r *bufio.Reader) io.ReadCloser {
	in := &lookBack{r: r}
	return io.NopCloser(&bzip2Reader{in: in, z: bzip2.NewReader(in)})
}

func (b *bzip2Reader) Read(p []byte) (int, error) {
	n, err := b.z.Read(p)
	const nextMagic = bzip2.StructuralError("bad magic value in continuation file")
	if errors.Is(err, nextMagic) {
		b.in.back()
		err = io.EOF
	} else if err != nil {
		b.in.settle()
	}
	return n, err
}

// A lookBack hands out bytes and can take back the last two.
type lookBack struct {
	r    *bufio.Reader
	lent int // bytes that were handed out and are still in r, at most two
}

func (l *lookBack) ReadByte() (byte, error) {
	if l.lent == 2 {
		if _, err := l.r.Discard(1); err != nil {
			return 0, err
		}
		l.lent--
	}
	b, err := l.r.Peek(l.lent + 1)
	if len(b) <= l.lent {
		return 0, err
	}
	l.lent++
	return b[l.lent-1], nil
}

// Read is for io.Reader; the library takes single bytes.
func (l *lookBack) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := l.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = b
	return 1, nil
}

// back takes back the last two bytes.
func (l *lookBack) back() { l.lent = 0 }

// settle gives them away for good.
func (l *lookBack) settle() {
	_, _ = l.r.Discard(l.lent) // they are in the buffer
	l.lent = 0
}
