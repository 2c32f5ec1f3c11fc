package rootdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A sparse device keeps the bytes that are not zero of an image of any size.
type sparse struct {
	size   int64
	pieces []piece // later ones lie over earlier ones
}

type piece struct {
	at    int64
	bytes []byte
}

func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	if off >= s.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), s.size-off))
	clear(p[:n])
	for _, q := range s.pieces {
		from, to := max(off, q.at), min(off+int64(n), q.at+int64(len(q.bytes)))
		if from < to {
			copy(p[from-off:to-off], q.bytes[from-q.at:])
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// load reads what Probe may look at: the first 4 MiB of an image and the last.
func load(t *testing.T, image string) *sparse {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	s := &sparse{size: st.Size()}
	for _, at := range []int64{0, max(0, s.size-mib)} {
		b := make([]byte, min(4*mib, s.size-at))
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		s.pieces = append(s.pieces, piece{at, b})
	}
	return s
}

// probeChecked probes s and checks what holds for any device.
func probeChecked(t *testing.T, r io.ReaderAt, size int64, what any) (Info, error) {
	t.Helper()
	c := &counter{r: r}
	info, table, err := inspect(c, size)
	if c.read > maxRead {
		t.Errorf("%v: read %d bytes", what, c.read)
	}
	if (err == nil) != (info.Type != "" || info.TableType != "") {
		t.Errorf("%v: %+v, %v", what, info, err)
	}
	if strings.ContainsRune(info.Label+info.UUID+info.SubUUID+info.Version, 0) || len(info.Label) > 3*512 || len(info.UUID) > 64 {
		t.Errorf("%v: %+v", what, info)
	}
	if table != nil {
		for _, p := range table.Parts {
			if p.Number < 1 || p.Size == 0 || p.Start+p.Size < p.Start || strings.ContainsRune(p.Name, 0) || len(p.Name) > 108 {
				t.Errorf("%v: %+v", what, p)
			}
		}
		if len(table.Parts) > gptMost {
			t.Errorf("%v: %d partitions", what, len(table.Parts))
		}
	}
	return *info, err
}

// spans are where the bytes are that Probe reads of a format, besides those that others have at the start.
func spans(kind string) []piece {
	at := func(off int64, n int) piece { return piece{off, make([]byte, n)} }
	return map[string][]piece{
		"btrfs":    {at(btrfsOffset, 600)},
		"vfat":     {at(0, 96), at(512, 512), at(0x2000, 0x4000)},
		"exfat":    {at(0, 128)},
		"ntfs":     {at(0, 96), at(0x4000, 0x2000)},
		"iso9660":  {at(isoOffset, 4*isoSector)},
		"udf":      {at(isoOffset, 4*isoSector), at(96*512, 4096), at(256*512, 512), at(256*2048, 512), at(257*512, 8192)},
		"swap":     {at(1024, 256), at(4080, 16)},
		mdType:     {at(0, 512), at(4096, 512)},
		lvm2Type:   {at(0, 2048)},
		"bcachefs": {at(bcachefsOffset, 1024)},
		"luks":     {at(0, 512), at(0x4000, 512)},
		"dos, gpt": {at(0, 1024), at(1024, 1024)},
	}[kind]
}

// flips is the number of bits that are flipped in each image: few, or as many as the environment says.
func flips(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("HAPAX_PROBE_FLIPS"))
	if err != nil {
		return 200
	}
	t.Logf("%d flips each", n)
	return n
}

// A victim is a device that is damaged.
type victim struct {
	kind string
	load func(t *testing.T) *sparse // a copy for one test
}

// victims returns one device or more of everything that the prober knows: what every mkfs makes, and what none of Debian's can.
func victims() (all []victim) {
	for _, r := range append(recipes(),
		recipe{"ext2", 64 * mib, `mkfs.ext2 -q -F $I`},
		recipe{"ext3", 64 * mib, `mkfs.ext3 -q -F $I`},
		recipe{"ext4", 64 * mib, `mkfs.ext4 -q -F $I`},
		recipe{lvm2Type, 8 * mib, physicalVolume("")},
		recipe{"dos, gpt", 64 * mib, `sgdisk -n 1:0:+1M -n 2:0:+1M -c 2:x $I`},
		recipe{"dos, gpt", 64 * mib, `printf 'label: dos\n1: size=10M\n2: size=20M,type=E\n5: size=5M\n6: size=1M\n' | sfdisk -q $I`}) {
		all = append(all, victim{r.kind, func(t *testing.T) *sparse { return load(t, r.cook(t)) }})
	}
	made := func(kind string, at int64, super []byte) {
		all = append(all, victim{kind, func(*testing.T) *sparse {
			const size = 8 * mib
			return &sparse{size: size, pieces: []piece{{0, make([]byte, 4*mib)}, {size - mib, make([]byte, mib)}, {at, slices.Clone(super)}}}
		}})
	}
	const last = 8 * mib
	made(mdType, last-64*kib, md0Super(binary.LittleEndian, 4*kib))
	made(mdType, last-64*kib, md0Super(binary.BigEndian, 4*kib))
	made(mdType, last-8192, md1Super(last-8192, "host:0"))
	made(mdType, 0, md1Super(0, "host:1"))
	made(mdType, 4096, md1Super(4096, "host:2"))
	made("bcachefs", 0, bcachefsDevice())
	return all
}

// TestProbeFlips flips bits one by one and then together.
func TestProbeFlips(t *testing.T) {
	t.Parallel()
	for i, v := range victims() {
		t.Run(fmt.Sprint(i, " ", v.kind), func(t *testing.T) {
			t.Parallel()
			s := v.load(t)
			where := append(spans(v.kind), piece{0, make([]byte, 4096)}, piece{max(0, s.size-66*kib), make([]byte, 66*kib)})
			rng := rand.New(rand.NewPCG(uint64(i), 7))
			flip := func() (*byte, byte) {
				for {
					p := where[rng.IntN(len(where))]
					at := p.at + rng.Int64N(int64(len(p.bytes)))
					for i := len(s.pieces) - 1; i >= 0; i-- {
						if q := s.pieces[i]; at >= q.at && at < q.at+int64(len(q.bytes)) {
							return &q.bytes[at-q.at], 1 << rng.IntN(8)
						}
					}
				}
			}
			for n := range flips(t) {
				b, bit := flip()
				*b ^= bit
				probeChecked(t, s, s.size, n)
				if n%8 != 0 { // every eighth one stays
					*b ^= bit
				}
			}
		})
	}
}

// TestProbeTruncatedAgainstBlkid cuts images off where the formats have their edges.
func TestProbeTruncatedAgainstBlkid(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range append(recipes(), recipe{"ext4", 8 * mib, `mkfs.ext4 -q -F -O ^metadata_csum $I`}) {
		if seen[r.kind] || r.kind == "" {
			continue
		}
		seen[r.kind] = true
		t.Run(r.kind, func(t *testing.T) {
			t.Parallel()
			image := r.cook(t)
			s := load(t, image)
			for _, n := range []int64{
				0, 1, 511, 512, 1023, 1024, 1025, 1535, 1536, 2047, 2048, 2049, 3071, 3072, 4095, 4096, 4097, 5119, 5120, 8192, 16895, 16896,
				32768, 33791, 33792, 34816, 36863, 36864, 40959, 40960, 65535, 65536, 66559, 66560, 69631, 69632, 131072, 131583, 131584,
				256*2048 + 439, 256*2048 + 440, mib - 1, mib, tinySize, tinySize + 1, 4*mib - 1, 4 * mib,
			} {
				if n >= s.size {
					continue
				}
				restore(t, image, s, n)
				want, wantErr := blkid(t, image)
				got, err := probeFile(t, image)
				if got != want || !errors.Is(err, wantErr) {
					t.Errorf("%d bytes: %+v, %v; blkid finds %+v, %v", n, got, err, want, wantErr)
				}
			}
		})
	}
}

// restore makes image the first n bytes of s again.
func restore(t *testing.T, image string, s *sparse, n int64) {
	t.Helper()
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	_, readErr := s.ReadAt(b, 0)
	_, writeErr := f.Write(b)
	if err := errors.Join(readErr, writeErr, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestProbeEveryTruncation cuts after every byte of the superblocks.
func TestProbeEveryTruncation(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, v := range victims() {
		if seen[v.kind] {
			continue
		}
		seen[v.kind] = true
		t.Run(v.kind, func(t *testing.T) {
			t.Parallel()
			s := v.load(t)
			step := int64(13)
			if os.Getenv("HAPAX_PROBE_FLIPS") != "" {
				step = 1
			}
			for _, p := range append(spans(v.kind), piece{0, make([]byte, 4096)}) {
				for n := p.at; n < min(p.at+int64(len(p.bytes)), s.size); n += step {
					short := &sparse{size: n, pieces: s.pieces}
					probeChecked(t, short, n, n)
					probeChecked(t, short, s.size, n) // it says that it is longer
				}
			}
		})
	}
}

// backupGPT returns a disk of 128 KiB that has a GPT in its backup only, with one partition that is all of
// the disk, after change has been at the header and the entries. The checksums are right.
func backupGPT(change func(h, e []byte)) []byte {
	const size = 128 * kib
	dev := make([]byte, size)
	le := binary.LittleEndian
	dev[510], dev[511], dev[450] = 0x55, 0xaa, 0xee
	last := uint64(size/512 - 1)
	h, e := dev[size-512:], dev[size-512-32*512:size-512]
	copy(h, "EFI PART")
	for at, v := range map[int]uint32{8: 0x10000, 12: 92, 80: 128, 84: 128} {
		le.PutUint32(h[at:], v)
	}
	for at, v := range map[int]uint64{24: last, 32: 1, 40: 0, 48: last, 72: last - 32} {
		le.PutUint64(h[at:], v)
	}
	copy(e, "type of the parttest of the part")
	le.PutUint64(e[40:], last)
	change(h, e)
	le.PutUint32(h[88:], ^checksum(polyIEEE, ^uint32(0), e[:min(len(e), int(le.Uint32(h[80:]))*int(le.Uint32(h[84:])))]))
	clear(h[16:20])
	le.PutUint32(h[16:], ^checksum(polyIEEE, ^uint32(0), h[:92]))
	return dev
}

// TestProbeHostileGPT begins with the table that a well-known library did not survive, because its partition
// contains the table.
func TestProbeHostileGPT(t *testing.T) {
	t.Parallel()
	const size = 128 * kib
	for name, tt := range map[string]struct {
		change func(h, e []byte)
		parts  int // -1: no GPT at all
	}{
		"as it is":              {func(h, e []byte) {}, 1},
		"entries of no bytes":   {func(h, e []byte) { h[84] = 0 }, -1},
		"entries of one byte":   {func(h, e []byte) { h[84] = 1 }, -1},
		"huge entries":          {func(h, e []byte) { h[87] = 0xff }, -1},
		"no entries":            {func(h, e []byte) { h[80] = 0 }, -1},
		"four billion entries":  {func(h, e []byte) { copy(h[80:], "\xff\xff\xff\xff") }, -1},
		"entries at the end":    {func(h, e []byte) { h[72] = 0xff }, -1},
		"entries far away":      {func(h, e []byte) { h[79] = 0xff }, -1},
		"long header":           {func(h, e []byte) { h[13] = 0x20 }, -1},
		"elsewhere":             {func(h, e []byte) { h[24]-- }, -1},
		"ends before it starts": {func(h, e []byte) { e[32] = 9; e[40] = 8 }, 0},
		"past the end":          {func(h, e []byte) { e[47] = 0x80 }, 0},
		"overlapping":           {func(h, e []byte) { copy(e[128:], e[:128]) }, 2},
	} {
		s := &sparse{size: size, pieces: []piece{{0, backupGPT(tt.change)}}}
		_, table, err := inspect(s, size)
		got := -1
		if table != nil && table.Type == tableGPT {
			got = len(table.Parts)
		}
		if got != tt.parts || err != nil {
			t.Errorf("%s: %d partitions, %v; want %d", name, got, err, tt.parts)
		}
		probeChecked(t, s, size, name)
	}
}

// seeds are devices on which fuzzing begins: two pieces and a size.
func seeds() (s []struct {
	a, b     []byte
	atA, atB uint32
	size     int64
}) {
	add := func(size int64, at uint32, a []byte, atB uint32, b []byte) {
		s = append(s, struct {
			a, b     []byte
			atA, atB uint32
			size     int64
		}{a, b, at, atB, size})
	}
	for _, f := range formats() {
		for _, m := range f.magics {
			add(4*mib, uint32(m.at), append([]byte(m.bytes), make([]byte, 256)...), 0, nil)
		}
	}
	for _, e := range []super{ext2Super(), ext3Super(), ext4Super(), {0, 8, 0, "x", testUUID}} {
		add(8192, 0, e.device(), 0, nil)
	}
	add(4*mib, 0, md1Super(0, "x"), 4*mib-64*kib, md0Super(binary.LittleEndian, 64))
	return s
}

func FuzzProbe(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s.a, s.atA, s.b, s.atB, s.size)
	}
	f.Add([]byte{}, uint32(0), []byte{}, uint32(0), int64(-1))
	f.Fuzz(func(t *testing.T, a []byte, atA uint32, b []byte, atB uint32, size int64) {
		s := &sparse{size: min(size, 1<<40), pieces: []piece{{int64(atA), a}, {int64(atB), b}}}
		probeChecked(t, s, size, "fuzzed")
		probeChecked(t, sectored{s, 4096}, size, "fuzzed, sectors of 4096 bytes")
	})
}

// FuzzTable has a boot record, the start of a GPT, and its entries; the checksums are made right.
func FuzzTable(f *testing.F) {
	f.Add(make([]byte, 64), []byte("EFI PART\x00\x00\x01\x00\x5c"), make([]byte, 256), uint32(1))
	f.Add([]byte("\x00\x00\x00\x00\xee"), []byte{}, []byte{}, uint32(9))
	f.Fuzz(func(t *testing.T, mbr, header, entries []byte, lba uint32) {
		const size = 2 * mib
		le := binary.LittleEndian
		boot, h := make([]byte, 512), make([]byte, 512)
		copy(boot[mbrTable:510], mbr)
		boot[510], boot[511] = 0x55, 0xaa
		copy(h, header)
		copy(h, "EFI PART")
		le.PutUint64(h[24:], 1)
		n := int(min(uint64(le.Uint32(h[80:]))*uint64(le.Uint32(h[84:])), size))
		padded := make([]byte, max(n, len(entries)))
		copy(padded, entries)
		le.PutUint32(h[88:], ^checksum(polyIEEE, ^uint32(0), padded[:n]))
		length := min(max(le.Uint32(h[12:]), 92), 512)
		clear(h[16:20])
		le.PutUint32(h[16:], ^checksum(polyIEEE, ^uint32(0), h[:length]))
		s := &sparse{size: size, pieces: []piece{{int64(lba%4096) * 512, padded}, {0, boot}, {512, h}}}
		probeChecked(t, s, size, "fuzzed")
	})
}
