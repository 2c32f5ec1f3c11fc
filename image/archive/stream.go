package archive

import (
	"bufio"
	"io"
)

// A stream passes one compressed stream on and ends exactly behind it, wherever the decoder would like to read on: what
// follows in an image may be another archive. A format gives it a first look, which sees what comes next without reading
// it, says how many bytes to pass on before the next look, and which look that is. Everything but lengths is left to the
// decoder: bytes that a look cannot make sense of pass through it.
type stream struct {
	r    *bufio.Reader
	look func() error // nil: the stream has ended
	pass int64        // bytes to hand out before the next look
}

func (s *stream) Read(p []byte) (int, error) {
	for s.pass == 0 {
		if s.look == nil {
			return 0, io.EOF
		}
		if err := s.look(); err != nil {
			return 0, err
		}
	}
	n, err := s.r.Read(p[:min(int64(len(p)), s.pass)])
	s.pass -= int64(n)
	return n, err
}

// giveUp passes on all that is left, for the decoder to say what is wrong with it.
func (s *stream) giveUp() { s.pass, s.look = 1<<62, nil }
