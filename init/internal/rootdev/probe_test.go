package rootdev

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A super is what makes a superblock of the ext family in these tests.
type super struct {
	compat, incompat, roCompat uint32
	label                      string
	uuid                       string // 16 bytes
}

const testUUID = "\x8c\x3d\x63\x1b\x10\xa4\x41\x1a\xbf\xc4\x3c\x8f\x7f\x02\xb5\x41"
const testUUIDText = "8c3d631b-10a4-411a-bfc4-3c8f7f02b541"

// The features that mke2fs gives the three types by default.
func ext2Super() super { return super{0x38, 0x2, 0x3, "", testUUID} }
func ext3Super() super { return super{0x3c, 0x2, 0x3, "", testUUID} }
func ext4Super() super { return super{0x3c, 0x2c2, 0x46b, "", testUUID} }

// device returns the first 4 KiB of a device with this superblock, its checksum right.
func (s super) device() []byte {
	dev := make([]byte, 4096)
	sb := dev[1024:2048]
	le := binary.LittleEndian
	le.PutUint16(sb[0x38:], 0xef53)
	le.PutUint32(sb[0x4c:], 1)
	le.PutUint32(sb[0x5c:], s.compat)
	le.PutUint32(sb[0x60:], s.incompat)
	le.PutUint32(sb[0x64:], s.roCompat)
	copy(sb[0x68:0x78], s.uuid)
	copy(sb[0x78:0x88], s.label)
	if s.roCompat&0x400 != 0 {
		le.PutUint32(sb[0x3fc:], ^crc32.Checksum(sb[:0x3fc], crc32.MakeTable(crc32.Castagnoli)))
	}
	return dev
}

func probe(dev []byte) (Info, error) { return Probe(bytes.NewReader(dev), int64(len(dev))) }

func TestProbeExt(t *testing.T) {
	t.Parallel()
	with := func(s super, change func(*super)) super { change(&s); return s }
	for _, tt := range []struct {
		name string
		s    super
		want Info
	}{
		{"ext2", ext2Super(), Info{Type: "ext2"}},
		{"ext3", ext3Super(), Info{Type: "ext3"}},
		{"ext4", ext4Super(), Info{Type: "ext4"}},
		{"ext3 that needs recovery", with(ext3Super(), func(s *super) { s.incompat |= 0x4 }), Info{Type: "ext3"}},
		{"needs recovery without a journal", with(ext2Super(), func(s *super) { s.incompat |= 0x4 }), Info{Type: "ext4"}},
		{"ext2 with extents", with(ext2Super(), func(s *super) { s.incompat |= 0x40 }), Info{Type: "ext4"}},
		{"ext3 with huge files", with(ext3Super(), func(s *super) { s.roCompat |= 0x8 }), Info{Type: "ext4"}},
		{"ext2 with meta_bg", with(ext2Super(), func(s *super) { s.incompat |= 0x10 }), Info{Type: "ext2"}},
		{"features from the future", with(ext4Super(), func(s *super) { s.incompat |= 1 << 31 }), Info{Type: "ext4"}},
		{"journal device", super{0, 0x8, 0, "", testUUID}, Info{Type: "jbd", Usage: Other}},
		{"label", with(ext4Super(), func(s *super) { s.label = "root" }), Info{Type: "ext4", Label: "root"}},
		{"label of 16 bytes", with(ext4Super(), func(s *super) { s.label = "0123456789abcdef" }), Info{Type: "ext4", Label: "0123456789abcdef"}},
		{"label with spaces", with(ext4Super(), func(s *super) { s.label = " a b \n " }), Info{Type: "ext4", Label: " a b"}},
		{"label of spaces", with(ext4Super(), func(s *super) { s.label = "   " }), Info{Type: "ext4"}},
		{"label with bytes behind its NUL", with(ext4Super(), func(s *super) { s.label = "a\x00b" }), Info{Type: "ext4", Label: "a"}},
		{"hostile label", with(ext4Super(), func(s *super) { s.label = "../../etc/\x1b\xff" }), Info{Type: "ext4", Label: "../../etc/\x1b\xff"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.want.UUID, tt.want.Version = testUUIDText, "1.0"
			if tt.want.Usage == "" {
				tt.want.Usage = Filesystem
			}
			got, err := probe(tt.s.device())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Info differs (-want +got):\n%s", diff)
			}
		})
	}
	if got, err := probe(with(ext4Super(), func(s *super) { s.uuid = "" }).device()); err != nil || got.UUID != "" {
		t.Errorf("UUID of zeros: %q, %v; want none", got.UUID, err)
	}
}

func TestProbeChecksum(t *testing.T) {
	t.Parallel()
	dev := ext4Super().device()
	dev[1024+0x6a] ^= 1 // in the UUID
	if info, err := probe(dev); !errors.Is(err, ErrDamaged) || info != (Info{}) {
		t.Errorf("flipped bit: %+v, %v; want ErrDamaged", info, err)
	} else if err.Error() != "ext4: wrong checksum in the superblock" {
		t.Errorf("flipped bit: %v", err)
	}
	dev = ext3Super().device()
	dev[1024+0x3fc] ^= 1 // means nothing without metadata_csum
	if info, err := probe(dev); err != nil || info.Type != "ext3" {
		t.Errorf("checksum without the feature: %+v, %v", info, err)
	}
}

func TestProbeUnknown(t *testing.T) {
	t.Parallel()
	for name, dev := range map[string][]byte{
		"empty":            nil,
		"zeros":            make([]byte, 1<<16),
		"short":            make([]byte, 100),
		"magic swapped":    swapped(ext4Super().device()),
		"magic at the end": ext4Super().device()[:1024+0x3a],
	} {
		if info, err := probe(dev); !errors.Is(err, ErrUnknown) || info != (Info{}) {
			t.Errorf("%s: %+v, %v; want ErrUnknown", name, info, err)
		}
	}
}

func swapped(dev []byte) []byte {
	dev[1024+0x38], dev[1024+0x39] = dev[1024+0x39], dev[1024+0x38]
	return dev
}

// TestProbeStatedSize checks sizes that disagree with the device, as after a truncation behind our back.
func TestProbeStatedSize(t *testing.T) {
	t.Parallel()
	dev := ext4Super().device()
	for size, want := range map[int64]error{
		-1: ErrUnknown, 0: ErrUnknown, 2047: ErrUnknown, 2048: nil, 1 << 62: nil, -1 << 63: ErrUnknown,
	} {
		if _, err := Probe(bytes.NewReader(dev), size); !errors.Is(err, want) {
			t.Errorf("size %d: %v, want %v", size, err, want)
		}
	}
	if _, err := Probe(bytes.NewReader(dev[:1500]), 4096); !errors.Is(err, ErrUnknown) {
		t.Errorf("device shorter than stated: %v, want ErrUnknown", err)
	}
}

// A faulty device answers every read with err.
type faulty struct{ err error }

func (f faulty) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestProbeIOError(t *testing.T) {
	t.Parallel()
	_, err := Probe(faulty{syscall.EIO}, 1<<20)
	if !errors.Is(err, syscall.EIO) || errors.Is(err, ErrUnknown) {
		t.Errorf("error %v, want EIO", err)
	}
	if _, err := Probe(faulty{nil}, 1<<20); !errors.Is(err, ErrUnknown) { // against the contract of io.ReaderAt
		t.Errorf("reader without progress: %v, want ErrUnknown", err)
	}
}

// TestProbeTruncations and the flips below hold D5 of the fault catalogue for what is known here.
func TestProbeTruncations(t *testing.T) {
	t.Parallel()
	dev := ext4Super().device()
	for n := range dev {
		info, err := probe(dev[:n])
		if known := n >= 2048; known != (err == nil) {
			t.Fatalf("%d bytes: %+v, %v", n, info, err)
		}
	}
}

func TestProbeBitFlips(t *testing.T) {
	t.Parallel()
	const csumBit = extROCompatAt*8 + 10 // the bit that says that there is a checksum
	for bit := range extSize * 8 {
		for _, s := range []super{ext2Super(), ext3Super(), ext4Super()} {
			dev := s.device()
			dev[extOffset+bit/8] ^= 1 << (bit % 8)
			info, err := probe(dev)
			if summed := s.roCompat&extMetadataCsum != 0; summed && bit != csumBit && err == nil {
				t.Fatalf("%+v with bit %d flipped: %+v passes", s, bit, info)
			}
			if (err == nil) != (info.Type != "") {
				t.Fatalf("%+v with bit %d flipped: %+v, %v", s, bit, info, err)
			}
		}
	}
}

// A counter counts what is read through it.
type counter struct {
	r    io.ReaderAt
	read int
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	c.read += len(p)
	return c.r.ReadAt(p, off)
}

func TestDeviceRead(t *testing.T) {
	t.Parallel()
	contents := make([]byte, frontSize+100)
	for name, tt := range map[string]struct {
		off  uint64
		n    int
		fits bool
	}{
		"all of the front":       {0, frontSize, true},
		"nothing":                {0, 0, true},
		"over the front's end":   {frontSize - 1, 2, true},
		"the end":                {frontSize, 100, true},
		"one too many":           {frontSize, 101, false},
		"nothing behind the end": {frontSize + 101, 0, false},
		"far away":               {1 << 63, 1, false},
		"wrapping around":        {^uint64(0), 2, false},
		"negative":               {0, -1, false},
	} {
		b, err := newDevice(bytes.NewReader(contents), int64(len(contents))).read(tt.off, tt.n)
		if tt.fits && (err != nil || len(b) != tt.n) || !tt.fits && !errors.Is(err, errNot) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	d := newDevice(bytes.NewReader(contents), int64(len(contents)))
	for range (maxRead - frontSize) / 100 {
		if _, err := d.read(frontSize, 100); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.read(frontSize, 100); err == nil || errors.Is(err, errNot) {
		t.Errorf("read beyond the budget: %v", err)
	}
}

// bcachefsDevice returns the start of a device with a superblock of bcachefs.
func bcachefsDevice() []byte {
	dev := make([]byte, 256*512)
	sb := dev[bcachefsOffset:]
	le := binary.LittleEndian
	le.PutUint16(sb[16:], 1025)
	copy(sb[24:], bcachefsMagics()[0].bytes)
	copy(sb[40:], "another UUID, of")
	copy(sb[56:], testUUID)
	copy(sb[72:], "a label")
	le.PutUint64(sb[104:], 8)
	sb[122], sb[123] = 1, 2
	le.PutUint32(sb[124:], 100)
	return dev
}

// TestProbeBcachefs: Debian 12 has neither a mkfs for it nor a blkid that knows it.
func TestProbeBcachefs(t *testing.T) {
	t.Parallel()
	build := func(change func(sb []byte)) []byte {
		dev := bcachefsDevice()
		change(dev[bcachefsOffset:])
		return dev
	}
	want := Info{Type: "bcachefs", Usage: Filesystem, UUID: testUUIDText, Label: "a label", Version: "1025"}
	for name, change := range map[string]func(sb []byte){
		"as it is":      func([]byte) {},
		"the old magic": func(sb []byte) { copy(sb[24:], bcachefsMagics()[1].bytes) },
	} {
		if got, err := probe(build(change)); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
		}
	}
	for name, change := range map[string]func(sb []byte){
		"a superblock of another place": func(sb []byte) { sb[104] = 9 },
		"no devices":                    func(sb []byte) { sb[123] = 0 },
		"not one of its devices":        func(sb []byte) { sb[122] = 2 },
		"longer than can be":            func(sb []byte) { sb[126] = 1 },
	} {
		if got, err := probe(build(change)); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %+v, %v; want ErrUnknown", name, got, err)
		}
	}
}

func TestChecksum(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "a", "123456789", strings.Repeat("\xff\x00", 510)} {
		if got, want := ^checksum(polyCastagnoli, ^uint32(0), []byte(s)), crc32.Checksum([]byte(s), crc32.MakeTable(crc32.Castagnoli)); got != want {
			t.Errorf("CRC-32C of %q is %#x, want %#x", s, got, want)
		}
		if got, want := ^checksum(polyIEEE, ^uint32(0), []byte(s)), crc32.ChecksumIEEE([]byte(s)); got != want {
			t.Errorf("CRC-32 of %q is %#x, want %#x", s, got, want)
		}
	}
}

func BenchmarkProbe(b *testing.B) {
	dev := ext4Super().device()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := probe(dev); err != nil {
			b.Fatal(err)
		}
	}
}
