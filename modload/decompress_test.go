package modload

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
	ulikunitz "github.com/ulikunitz/xz"
)

// moduleLike returns n bytes that begin as an ELF file does and pack about as
// well as one.
func moduleLike(n int) []byte {
	b := append(make([]byte, 0, n), "\x7fELF"...)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	words := strings.Fields("mov call ret push pop virtio_ring printk .text .rodata __kstrtab")
	for len(b) < n {
		b = append(b, words[r.IntN(len(words))]...)
		b = binary.LittleEndian.AppendUint16(b, uint16(r.Uint32()))
	}
	return b[:n]
}

// pack compresses b in this process.
func pack(t testing.TB, compression string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch compression {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "xz":
		w, err = ulikunitz.WriterConfig{CheckSum: ulikunitz.CRC32, DictCap: 1 << 20}.NewWriter(&out)
	case "zstd":
		w, err = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	}
	if err == nil {
		_, err = w.Write(b)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func unpacked(compression string, packed []byte) ([]byte, error) {
	var out bytes.Buffer
	n, err := decompress(&out, compression, bytes.NewReader(packed), int64(len(packed)))
	if err == nil && n != int64(out.Len()) {
		return nil, errors.New("the length is wrong")
	}
	return out.Bytes(), err
}

// The tools that distributions pack modules with are understood, at the settings
// of the kernel's build, of Debian and of those who want the last byte.
func TestDecompressTools(t *testing.T) {
	t.Parallel()
	plain := moduleLike(300_000)
	file := filepath.Join(t.TempDir(), "m.ko")
	if err := os.WriteFile(file, plain, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{
		"gzip -n -c", "gzip -9 -c",
		"xz -c --check=crc32 --lzma2=dict=1MiB", "xz -c --check=crc32 --x86 --lzma2=dict=2MiB", "xz -c -9e", "xz -c --check=sha256", "xz -c --check=none",
		"zstd -q -c", "zstd -q -c -19", "zstd -q -c --ultra -22", "zstd -q -c --no-check",
	} {
		args := append(strings.Fields(command), file)
		packed, err := exec.Command(args[0], args[1:]...).Output()
		if err != nil {
			t.Errorf("%s: %v (make test as root installs it)", command, err)
			continue
		}
		compression := compressionOf(packed)
		got, err := unpacked(compression, packed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v; want %d bytes", command, len(got), err, len(plain))
		}
		if _, err := unpacked(compression, packed[:len(packed)-1]); err == nil {
			t.Errorf("%s: the last byte is missing, no error", command)
		}
		if _, err := unpacked(compression, append(packed, "garbage"...)); err == nil {
			t.Errorf("%s: garbage at the end, no error", command)
		}
	}
}

func TestDecompressBounds(t *testing.T) {
	t.Parallel()
	zeros := make([]byte, 16<<20)
	for _, compression := range []string{"gzip", "xz", "zstd"} {
		packed := pack(t, compression, zeros)
		if got, err := unpacked(compression, packed); !errors.Is(err, errBomb) || len(got) > slack+maxRatio*len(packed)+1 {
			t.Errorf("%s: %d bytes of zeros in %d: %d written, %v; want errBomb", compression, len(zeros), len(packed), len(got), err)
		}
		packed = pack(t, compression, zeros[:slack])
		if got, err := unpacked(compression, packed); err != nil || len(got) != slack {
			t.Errorf("%s: %d bytes, %v; want the %d bytes of zeros", compression, len(got), err, slack)
		}
		if _, err := unpacked(compression, pack(t, compression, nil)); err == nil {
			t.Errorf("%s: nothing inside, no error", compression)
		}
	}
	if _, err := unpacked("lzma", []byte("x")); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("an unknown compression gives %v", err)
	}
}

// A header that asks for a large window gets an error and no memory.
func TestDecompressWindows(t *testing.T) {
	t.Parallel()
	// The block header of an xz stream begins at 12: size, flags, filter, its
	// properties' size, the dictionary, three bytes of padding, CRC32.
	x := pack(t, "xz", moduleLike(1000))
	if x[14] != 0x21 || x[15] != 1 {
		t.Fatalf("the block header is not where it should be: %x", x[12:24])
	}
	x[16] = 40 // 4 GiB less one byte
	binary.LittleEndian.PutUint32(x[20:], crc32.ChecksumIEEE(x[12:20]))
	if _, err := unpacked("xz", x); !errors.Is(err, xz.ErrMemlimit) {
		t.Errorf("xz: %v, want ErrMemlimit", err)
	}
	z := []byte("\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00") // a window of 1 GiB, an empty last block
	if _, err := unpacked("zstd", z); !errors.Is(err, zstd.ErrWindowSizeExceeded) {
		t.Errorf("zstd: %v, want ErrWindowSizeExceeded", err)
	}
}

// Whatever is in the file, decompress neither panics nor writes past its bounds,
// and what it takes it takes in full.
func FuzzDecompress(f *testing.F) {
	for _, compression := range []string{"gzip", "xz", "zstd"} {
		f.Add(pack(f, compression, moduleLike(300)))
		f.Add(pack(f, compression, make([]byte, 10_000)))
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		compression := compressionOf(packed[:min(6, len(packed))])
		got, err := unpacked(compression, packed)
		if limit := slack + maxRatio*len(packed); len(got) > limit+1 || err == nil && (len(got) == 0 || len(got) > limit) {
			t.Errorf("%d bytes give %d, %v", len(packed), len(got), err)
		}
	})
}
