package sparse

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hapax/tests/need"
)

// scattered returns an image of odd size with random parts, some of them zero, and the same as flat bytes.
func scattered(t *testing.T, seed uint64, size int64) (*Image, []byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	m, flat := New(size), make([]byte, size)
	for at := int64(0); ; {
		at += r.Int64N(size / 6)
		n := r.Int64N(size / 9)
		if at+n > size {
			return m, flat
		}
		data := make([]byte, n)
		if r.IntN(4) > 0 {
			for i := range data {
				data[i] = byte(r.Uint32())
			}
		}
		m.Put(at, data)
		copy(flat[at:], data)
		at += n
	}
}

func TestReadAt(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		m, flat := scattered(t, seed, 300_001)
		r := rand.New(rand.NewPCG(seed, 2))
		for range 200 {
			at, n := r.Int64N(m.Size()), r.IntN(50_000)
			got := bytes.Repeat([]byte{0xee}, n)
			read, err := m.ReadAt(got, at)
			want := flat[at:min(at+int64(n), m.Size())]
			if read != len(want) || !bytes.Equal(got[:read], want) || (err != nil) != (read < n) || err != nil && err != io.EOF {
				t.Fatalf("seed %d: ReadAt(%d bytes, %d) = %d, %v; want %d bytes", seed, n, at, read, err, len(want))
			}
		}
	}
}

func writeFile(t *testing.T, write func(context.Context, File) error) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := write(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWriteRaw(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		m, flat := scattered(t, seed, 5_000_001)
		f := writeFile(t, m.WriteRaw)
		got, err := os.ReadFile(f.Name())
		if err != nil || !bytes.Equal(got, flat) {
			t.Fatalf("seed %d: the file differs (%v)", seed, err)
		}
	}
}

// The file takes no more room than its parts that are not zero.
func TestWriteRawLeavesHoles(t *testing.T) {
	t.Parallel()
	m := New(1 << 30)
	m.Put(1<<20, make([]byte, 8<<20))
	m.Put(512<<20, bytes.Repeat([]byte{1}, 5000))
	f := writeFile(t, m.WriteRaw)
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Size != 1<<30 || stat.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes take %d on the disk", stat.Size, stat.Blocks*512)
	}
}

func TestMeetingParts(t *testing.T) {
	t.Parallel()
	for name, fill := range map[string]func(*Image){
		"overlap":        func(m *Image) { m.Put(0, []byte("abc")); m.Put(2, []byte("d")) },
		"beyond the end": func(m *Image) { m.Put(8, []byte("abc")) },
		"negative":       func(m *Image) { m.Put(-1, []byte("a")) },
	} {
		m := New(10)
		fill(m)
		if _, err := m.ReadAt(make([]byte, 1), 0); err == nil {
			t.Errorf("%s: ReadAt gives no error", name)
		}
		if _, err := m.Sum(); err == nil {
			t.Errorf("%s: Sum gives no error", name)
		}
	}
}

func TestShrinkingFile(t *testing.T) {
	t.Parallel()
	m := New(100)
	m.PutReader(10, io.NewSectionReader(strings.NewReader("short"), 0, 50))
	if _, err := m.Sum(); !errors.Is(err, errChanged) {
		t.Errorf("Sum = %v, want errChanged", err)
	}
	if _, err := m.ReadAt(make([]byte, 100), 0); !errors.Is(err, errChanged) {
		t.Errorf("ReadAt = %v, want errChanged", err)
	}
}

func TestSum(t *testing.T) {
	t.Parallel()
	sums := map[[32]byte]string{}
	for name, m := range map[string]*Image{"empty": New(9), "longer": New(10), "a": New(10), "a later": New(10), "b": New(10)} {
		switch name {
		case "a":
			m.Put(1, []byte("a"))
		case "a later":
			m.Put(2, []byte("a"))
		case "b":
			m.Put(1, []byte("b"))
		}
		sum, err := m.Sum()
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := sums[sum]; ok {
			t.Errorf("%s has the sum of %s", name, other)
		}
		sums[sum] = name
	}
}

func TestCanceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m, _ := scattered(t, 1, 100_000)
	for _, write := range []func(context.Context, File) error{m.WriteRaw, m.WriteQCOW2} {
		f, err := os.Create(filepath.Join(t.TempDir(), "image"))
		if err != nil {
			t.Fatal(err)
		}
		if err := write(ctx, f); !errors.Is(err, context.Canceled) {
			t.Errorf("write with a cancelled context = %v", err)
		}
		f.Close()
	}
}

// QEMU is the oracle for its own format.
func TestWriteQCOW2(t *testing.T) {
	t.Parallel()
	need.Tools(t, "qemu-img")
	qemuImg := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "qemu-img", args...).CombinedOutput(); err != nil {
			t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	for seed, size := range []int64{700, 65536, 65536 * 7, 3_000_000 + 512} {
		m, flat := scattered(t, uint64(seed), size)
		f := writeFile(t, m.WriteQCOW2)
		qemuImg("check", "-q", f.Name())
		raw := f.Name() + ".raw"
		qemuImg("convert", "-O", "raw", f.Name(), raw)
		got, err := os.ReadFile(raw)
		if err != nil {
			t.Fatal(err)
		}
		// A virtual disk has whole sectors.
		want := append(flat, make([]byte, -size&511)...)
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes: qemu-img reads %d others", size, len(got))
		}
	}
	// More than one table, and more data than one block of reference counts counts, is out of reach of a quick test: the
	// tables alone are tried here.
	m := New(3 << 30)
	for at := int64(0); at < m.Size(); at += 100 << 20 {
		m.Put(at, []byte("data"))
	}
	f := writeFile(t, m.WriteQCOW2)
	qemuImg("check", "-q", f.Name())
	info, err := f.Stat()
	if err != nil || info.Size() > 4<<20 {
		t.Errorf("31 clusters of data make a file of %d bytes (%v)", info.Size(), err)
	}
}
