package service

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/klog"
)

const (
	// maxLine is how much of a line is kept together. A longer one becomes several.
	maxLine = 8 << 10

	// What a service may write to the kernel's log in a second. That log is small, and everybody's.
	maxKmsgLines = 200

	// Of what services write, the last bytes of each are kept, as many as there are to go around.
	mostKept  = 16 << 10
	leastKept = 4 << 10
	allKept   = 512 << 10
)

// kept returns how many bytes of the output of each of n services are kept.
func kept(n int) int { return max(min(mostKept, allKept/max(n, 1)), leastKept) }

// A ring keeps the last lines, as many as fit.
type ring struct {
	size int
	mu   sync.Mutex
	b    []byte
}

func (r *ring) add(line []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line = line[:min(len(line), r.size-1)]
	if over := len(r.b) + len(line) + 1 - r.size; over > 0 {
		// Whole lines make room.
		end := bytes.IndexByte(r.b[over-1:], '\n')
		r.b = append(r.b[:0], r.b[over+end:]...)
	}
	r.b = append(append(r.b, line...), '\n')
}

func (r *ring) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.b)
}

// A sink takes lines, each without its end.
type sink interface {
	line(b []byte)
	close()
}

// An output reads what a service writes, until the pipe ends.
type output struct {
	pipe *os.File
	ring *ring
	to   sink
	done atomic.Bool
}

// run is the goroutine of an output. It needs one buffer, however much is written and whether there are line ends in it.
func (o *output) run() {
	buf := make([]byte, maxLine)
	n := 0
	for {
		k, err := o.pipe.Read(buf[n:])
		n += k
		rest := o.lines(buf[:n], err != nil)
		n = copy(buf, rest)
		if err != nil {
			break
		}
	}
	o.pipe.Close()
	o.to.close()
	o.done.Store(true)
}

// lines passes on the lines of b, and returns what has no end yet. If all of the buffer or the last of it has none, it is
// passed on as well.
func (o *output) lines(b []byte, last bool) []byte {
	for {
		line, rest, whole := bytes.Cut(b, []byte{'\n'})
		if !whole && len(line) < maxLine && !(last && len(line) > 0) {
			return line
		}
		o.ring.add(line)
		o.to.line(line)
		b = rest
	}
}

// A kmsgSink writes lines to the kernel's log, not more than that can bear.
type kmsgSink struct {
	name    string
	log     *klog.Logger
	second  time.Time // the current one began here
	lines   int       // in it
	dropped int
}

func (s *kmsgSink) line(b []byte) {
	if now := time.Now(); now.Sub(s.second) >= time.Second {
		s.second, s.lines = now, 0
		s.account()
	}
	if s.lines += 1 + len(b)/klog.MaxRecord; s.lines > maxKmsgLines { // a long line is several there
		s.dropped++
		return
	}
	s.log.Output(s.name, string(b))
}

// account tells how many lines are missing.
func (s *kmsgSink) account() {
	if s.dropped > 0 {
		s.log.Warnf("%s: %d lines of its output are not in this log: it writes more than %d in a second", s.name, s.dropped, maxKmsgLines)
		s.dropped = 0
	}
}

func (s *kmsgSink) close() { s.account() }

// A fileSink writes lines to a file. When that has reached its size it gets another name, with ".1" behind it, in the place of
// an older one; if it cannot have that name, it begins anew. What cannot be written is lost, with a terminal or a pipe also what
// nobody takes in time.
type fileSink struct {
	path   string
	most   int64
	log    *klog.Logger
	f      *os.File
	plain  bool // a regular file: it has a size, and can be renamed
	size   int64
	buf    []byte // one line
	warned time.Time
	silent time.Time // until then nothing is written: nobody has taken the last line
}

func (s *fileSink) line(b []byte) {
	if s.f != nil && s.plain && s.size+int64(len(b))+1 > s.most && s.size > 0 {
		s.rotate()
	}
	if time.Now().Before(s.silent) || s.f == nil && !s.open(0) {
		return
	}
	s.buf = append(append(s.buf[:0], b...), '\n')
	if !s.plain {
		_ = s.f.SetWriteDeadline(time.Now().Add(outputPatience)) // what cannot be waited for has no deadline
	}
	n, err := s.f.Write(s.buf)
	s.size += int64(n)
	if s.warn(err); err != nil {
		s.close() // it may be another file by then
		if !s.plain {
			s.silent = time.Now().Add(outputPatience)
		}
	}
}

func (s *fileSink) open(more int) bool {
	how := more | os.O_WRONLY | os.O_APPEND | unix.O_NOFOLLOW | unix.O_NOCTTY | unix.O_NONBLOCK
	var err error
	if !strings.HasPrefix(s.path, "/dev/") { // a file there would keep the kernel from making the device
		how |= os.O_CREATE
		err = os.MkdirAll(filepath.Dir(s.path), 0o755)
	}
	if err == nil {
		s.f, err = os.OpenFile(s.path, how, 0o640)
	}
	if err != nil {
		s.f = nil
		s.warn(err)
		return false
	}
	s.plain, s.size = false, 0
	if st, err := s.f.Stat(); err == nil {
		s.plain, s.size = st.Mode().IsRegular(), st.Size()
	}
	return true
}

// rotate makes room for another line.
func (s *fileSink) rotate() {
	s.close()
	if err := os.Rename(s.path, s.path+".1"); err != nil {
		s.warn(err)
		s.open(os.O_TRUNC)
	}
}

// warn reports an error, though not more than once in a minute: a full disk fails each line.
func (s *fileSink) warn(err error) {
	if now := time.Now(); err != nil && (s.warned.IsZero() || now.Sub(s.warned) >= time.Minute) {
		s.warned = now
		s.log.Warnf("lines of a service are lost: %v", err)
	}
}

func (s *fileSink) close() {
	if s.f != nil {
		s.warn(s.f.Close())
		s.f = nil
	}
}

// expire ends a reader whose pipe is held open by a process that is none of the service's any more.
func (o *output) expire() {
	if err := o.pipe.SetReadDeadline(time.Unix(1, 0)); err != nil && !errors.Is(err, os.ErrClosed) {
		o.pipe.Close()
	}
}
