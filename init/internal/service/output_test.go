package service

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/klog"
)

// A sunk sink keeps lines.
type sunk struct {
	lines  []string
	closed bool
}

func (s *sunk) line(b []byte) { s.lines = append(s.lines, string(b)) }
func (s *sunk) close()        { s.closed = true }

// feed runs an output on what write writes.
func feed(t *testing.T, o *output, write func(w *os.File)) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	o.pipe = r
	go func() {
		write(w)
		w.Close()
	}()
	o.run()
	if !o.done.Load() {
		t.Error("not done")
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxLine+10)
	s := &sunk{}
	o := &output{ring: &ring{size: mostKept}, to: s}
	feed(t, o, func(w *os.File) {
		for _, part := range []string{"one\ntw", "o\n\n", long + "\n", "end"} {
			_, _ = w.WriteString(part)
		}
	})
	want := []string{"one", "two", "", long[:maxLine], long[maxLine:], "end"}
	if !slices.Equal(s.lines, want) || !s.closed {
		t.Errorf("lines %.80q, closed %v", s.lines, s.closed)
	}
	if got := string(o.ring.bytes()); got != strings.Join(want, "\n")+"\n" {
		t.Errorf("kept %d bytes", len(got))
	}
}

func TestRing(t *testing.T) {
	t.Parallel()
	for _, size := range []int{16, 100, 1000} {
		r := &ring{size: size}
		var all string
		for i := range 500 {
			line := strings.Repeat("y", i*7%40) + fmt.Sprint(i)
			r.add([]byte(line))
			all += line[:min(len(line), size-1)] + "\n"
			got := string(r.bytes())
			if len(got) > size || !strings.HasSuffix(all, got) || len(got) > 0 && got[len(got)-1] != '\n' {
				t.Fatalf("size %d: after %d lines %q", size, i+1, got)
			}
			if before := strings.TrimSuffix(all, got); before != "" && before[len(before)-1] != '\n' {
				t.Fatalf("size %d: half a line is kept: %q", size, got)
			}
		}
	}
}

// A tally is a kernel log that keeps nothing, so that its own memory does not count: how long the test takes is the host's matter.
type tally struct {
	bytes   int
	seconds int // in which lines were left out
}

func (l *tally) Write(record []byte) (int, error) {
	l.bytes += len(record)
	l.seconds += bytes.Count(record, []byte("lines of its output are not in this log"))
	return len(record), nil
}

// H5: a service that writes a gigabyte without a line end costs no memory, and the kernel's log not more than it can bear.
func TestH5NoLineEnd(t *testing.T) {
	t.Parallel()
	size := 1 << 30
	if testing.Short() {
		size = 1 << 26
	}
	var log tally
	s := &kmsgSink{name: "loud", log: klog.New(&log, cmdline.Info)}
	o := &output{ring: &ring{size: mostKept}, to: s}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	feed(t, o, func(w *os.File) {
		chunk := make([]byte, 1<<16)
		for i := range chunk {
			chunk[i] = 'a'
		}
		for range size / len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				t.Error(err)
				return
			}
		}
	})
	runtime.ReadMemStats(&after)
	if n := len(o.ring.b); n > mostKept {
		t.Errorf("%d bytes are kept, want at most %d", n, mostKept)
	}
	// Records of the kernel's log take memory for a moment, and there are at most so many in a second.
	if log.seconds == 0 {
		t.Error("nobody is told that lines are missing")
	}
	t.Logf("%d MiB written, %d kB in the log, %d kB kept", size>>20, log.bytes>>10, len(o.ring.b)>>10)
	if most := (log.seconds + 1) * maxKmsgLines * (maxLine + 200*10); log.bytes > most {
		t.Errorf("%d bytes in the kernel's log, want at most %d", log.bytes, most)
	}
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 64<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
}

// H4: what a service writes cannot steer the terminal that shows the kernel's log, nor forge a record of another.
func TestH4Escapes(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := &kmsgSink{name: "x", log: klog.New(&log, cmdline.Warn)}
	s.line([]byte("\x1b]0;title\x07 <0>hapax: forged \xff\r"))
	if got, want := log.String(), "<30>x: ?]0;title? <0>hapax: forged ??\n"; got != want {
		t.Errorf("record %q, want %q", got, want)
	}
}

func TestKmsgRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &kmsgSink{name: "x", log: klog.New(&log, cmdline.Warn)}
		for range 3 * maxKmsgLines {
			s.line([]byte("line"))
		}
		s.close()
		if n := strings.Count(log.String(), "x: line\n"); n != maxKmsgLines {
			t.Errorf("%d lines in the log, want %d", n, maxKmsgLines)
		}
		if !strings.Contains(log.String(), fmt.Sprintf("%d lines of its output are not", 2*maxKmsgLines)) {
			t.Errorf("the log ends with %q", log.String()[max(0, log.Len()-200):])
		}
	})
}

// Long lines count as what they become in the log.
func TestKmsgLongLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &kmsgSink{name: "x", log: klog.New(&log, cmdline.Warn)}
		for range 3 * maxKmsgLines {
			s.line(bytes.Repeat([]byte("x"), maxLine))
		}
		if n := strings.Count(log.String(), "x: "); n > maxKmsgLines || n < maxKmsgLines-maxLine/klog.MaxRecord {
			t.Errorf("%d records in the log, want at most %d", n, maxKmsgLines)
		}
	})
}

// A file is never larger than it may be, and neither is the one before it.
func TestFileSink(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "log/of/x")
	var log bytes.Buffer
	var all string
	for round := range 2 { // the second time there is a file
		s := &fileSink{path: file, most: 2000, log: klog.New(&log, cmdline.Warn)}
		for i := range 500 {
			line := fmt.Sprint(round, " ", i, strings.Repeat(".", i%50))
			s.line([]byte(line))
			all += line + "\n"
		}
		s.close()
	}
	now, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(file + ".1")
	if err != nil {
		t.Fatal(err)
	}
	if len(now) > 2000 || len(before) > 2000 || len(before) < 1900 || !strings.HasSuffix(all, string(before)+string(now)) {
		t.Errorf("%d bytes behind %d, and they are not the last ones", len(now), len(before))
	}
	if log.Len() > 0 {
		t.Errorf("log: %s", log.String())
	}
	// A link that somebody has laid there is not followed, a full disk is said once.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", file); err != nil {
		t.Fatal(err)
	}
	s := &fileSink{path: file, most: 2000, log: klog.New(&log, cmdline.Warn)}
	s.line([]byte("x"))
	s.line([]byte("y"))
	s.close()
	if n := strings.Count(log.String(), "lines of a service are lost"); n != 1 {
		t.Errorf("log: %q", log.String())
	}
}

// A log that is no regular file stays what it is, and one that cannot be renamed is bounded all the same.
func TestFileSinkOdd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var log bytes.Buffer
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	fill := func(path string, lines int) {
		s := &fileSink{path: path, most: 2000, log: klog.New(&log, cmdline.Warn)}
		for range lines {
			s.line(make([]byte, 999))
		}
		s.close()
	}
	fill(pipe, 100) // nobody reads
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	begun := time.Now()
	fill(pipe, 500) // nobody takes what is more than 64 KiB
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("each line was waited for: %v", took)
	}
	fill("/dev/hapax-test-no-device", 1)
	if _, err := os.Lstat("/dev/hapax-test-no-device"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a device that is not there was made: %v", err)
	}
	if st, err := os.Lstat(pipe); err != nil || st.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("the pipe is %v now, %v", st, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.MkdirAll(file+".1/x", 0o755); err != nil {
		t.Fatal(err)
	}
	fill(file, 101)
	if st, err := os.Stat(file); err != nil || st.Size() != 1000 {
		t.Errorf("a file that cannot be renamed: %v, %v", st, err)
	}
	for _, want := range []string{"pipe: no such device or address", "i/o timeout", "file exists"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, log.String())
		}
	}
}
