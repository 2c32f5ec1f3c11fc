package archive

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ulikunitz/xz"

	"hapax/tests/need"
)

// record returns one newc record made by hand, so that it can be wrong.
func record(name string, mode, size uint32, content string) string {
	field := func(n uint32) string {
		const digits = "0123456789abcdef"
		var b [8]byte
		for i := range b {
			b[i] = digits[n>>(28-4*i)&0xf]
		}
		return string(b[:])
	}
	head := "070701" + field(1) + field(mode) + field(0) + field(0) + field(1) + field(0) + field(size) +
		strings.Repeat(field(0), 4) + field(uint32(len(name)+1)) + field(0) + name + "\x00"
	pad := func(s string) string { return s + strings.Repeat("\x00", int(pad4(int64(len(s))))) }
	return pad(head) + pad(content)
}

func squeeze(t testing.TB, c Compression, plain string) string {
	t.Helper()
	var b bytes.Buffer
	z, err := NewCompressor(&b, c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(z, plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReaderJoinedArchives(t *testing.T) {
	t.Parallel()
	one := record("one", modeFile|0o644, 5, "12345") + record(trailer, 0, 0, "")
	two := record("two", modeFile|0o644, 0, "") + record(trailer, 0, 0, "")
	zeros := strings.Repeat("\x00", 5000)
	for name, tt := range map[string]struct {
		image   string
		names   string
		formats string
	}{
		"plain":                 {one, "one/0", "none"},
		"padded":                {one + zeros, "one/0", "none"},
		"led by zeros":          {zeros + one, "one/0", "none"},
		"two plain":             {one + two, "one/0 two/1", "none"},
		"early microcode":       {one + zeros + squeeze(t, Zstd, two), "one/0 two/1", "none zstd"},
		"gzip, then plain":      {squeeze(t, Gzip, one) + two, "one/0 two/1", "gzip none"},
		"gzip, zeros, zstd":     {squeeze(t, Gzip, one) + zeros + squeeze(t, Zstd, two), "one/0 two/1", "gzip zstd"},
		"two in one zstd":       {squeeze(t, Zstd, one+zeros+two), "one/0 two/1", "zstd"},
		"two zstd frames":       {squeeze(t, Zstd, one) + squeeze(t, Zstd, two), "one/0 two/1", "zstd"},
		"lz4":                   {squeeze(t, LZ4, one), "one/0", "lz4"},
		"lz4, then plain":       {squeeze(t, LZ4, one) + two, "one/0 two/1", "lz4 none"},
		"lz4, zeros, lz4":       {squeeze(t, LZ4, one) + zeros + squeeze(t, LZ4, two), "one/0 two/1", "lz4"},
		"lz4 of another writer": {strings.TrimSuffix(squeeze(t, LZ4, one), "\x00\x00\x00\x00"), "one/0", "lz4"},
		"xz":                    {squeeze(t, XZ, one), "one/0", "xz"},
		"xz, then plain":        {squeeze(t, XZ, one) + two, "one/0 two/1", "xz none"},
		"xz, zeros, gzip":       {squeeze(t, XZ, one) + zeros + squeeze(t, Gzip, two), "one/0 two/1", "xz gzip"},
		"zstd, then plain":      {squeeze(t, Zstd, one) + two, "one/0 two/1", "zstd none"},
		"zstd, zeros, xz":       {squeeze(t, Zstd, one) + zeros + squeeze(t, XZ, two), "one/0 two/1", "zstd xz"},
		"zstd, skippable":       {squeeze(t, Zstd, one) + "\x5e\x2a\x4d\x18\x03\x00\x00\x00abc" + two, "one/0 two/1", "zstd none"},
		"zstd in two frames":    {squeeze(t, Zstd, one[:50]) + squeeze(t, Zstd, one[50:]) + two, "one/0 two/1", "zstd none"},
		"trailer with a length": {record("one", modeFile, 0, "") + record(trailer, 0, 4, "junk") + two, "one/0 two/1", "none"},
		"hostile names":         {record("../../etc/passwd", modeFile, 0, "") + record("", modeDir, 0, "") + record(trailer, 0, 0, ""), "../../etc/passwd/0 /0", "none"},
	} {
		var names, formats []string
		r := NewReader(strings.NewReader(tt.image), Limits{})
		for {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				break
			}
			names = append(names, h.Name+"/"+string(rune('0'+h.Part)))
		}
		for _, f := range r.Formats() {
			formats = append(formats, string(f))
		}
		if strings.Join(names, " ") != tt.names || strings.Join(formats, " ") != tt.formats {
			t.Errorf("%s: files %q in formats %q, want %q in %q", name, names, formats, tt.names, tt.formats)
		}
	}
}

func TestReaderContent(t *testing.T) {
	t.Parallel()
	r := NewReader(strings.NewReader(record("f", modeFile, 5, "12345")+record("g", modeFile, 1, "x")+record(trailer, 0, 0, "")), Limits{})
	for _, want := range []string{"12345", "x"} {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != want {
			t.Errorf("content %q, %v; want %q", got, err, want)
		}
	}
	for range 2 {
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("Next at the end = %v, want io.EOF", err)
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	t.Parallel()
	end := record(trailer, 0, 0, "")
	good := record("f", modeFile, 5, "12345") + end
	for name, tt := range map[string]struct{ image, want string }{
		"empty":              {"", "no archive in it"},
		"zeros":              {"\x00\x00\x00\x00", "no archive in it"},
		"text":               {"hello world", "neither a newc archive nor compressed"},
		"odc":                {"070707" + strings.Repeat("0", 200), `begins with "070707"`},
		"short header":       {good[:50], "cut short"},
		"short name":         {good[:111], "cut short"},
		"short content":      {good[:115], "cut short"},
		"no trailer":         {record("f", modeFile, 0, ""), "cut short"},
		"junk between":       {good + "junk", "neither a newc archive"},
		"not hexadecimal":    {strings.Replace(good, "0000", "000g", 1), "no hexadecimal number"},
		"no name":            {strings.Replace(good, "00000002"+"00000000"+"f", "00000000"+"00000000"+"f", 1), "a name of 0 bytes"},
		"4 GiB name":         {strings.Replace(good, "00000002"+"00000000"+"f", "ffffffff"+"00000000"+"f", 1), "a name of 4294967295 bytes"},
		"unended name":       {strings.Replace(good, "f\x00", "ff", 1), "has no end"},
		"4 GiB link":         {record("l", modeLink, 1<<32-1, "x") + end, "a link target of 4294967295 bytes"},
		"4 GiB file":         {record("f", modeFile, 1<<32-1, "x") + end, "cut short"},
		"broken bzip2":       {"BZh9xxxxxx", "archive 1 (bzip2)"},
		"broken lzma":        {"\x5d\x00\x00\x10\x00" + strings.Repeat("\xff", 40), "archive 1 (lzma)"},
		"lzma, 4 GiB window": {"\x5d\x00\x00\x00\xf0" + strings.Repeat("\x00", 40), "window above 128 MiB"},
		"cut lzop":           {"\x89LZO\x00\r\n\x1a\n\x10\x40", "cut short"},
		"lz4 frame":          {"\x04\x22\x4d\x18xxxx", "no kernel reads"},
		"compressed twice":   {squeeze(t, Gzip, squeeze(t, Zstd, good)), "zstd inside of gzip"},
		"cut zstd":           {cut(squeeze(t, Zstd, good)), "archive 1 (zstd)"},
		"cut xz":             {cut(squeeze(t, XZ, good)), "archive 1 (xz)"},
		"cut gzip":           {cut(squeeze(t, Gzip, good)), "archive 1 (gzip)"},
		"large lz4 block":    {"\x02\x21\x4c\x18\xff\xff\xff\x7f", "more than its content"},
		"cut lz4":            {cut(squeeze(t, LZ4, good)), "archive 1 (lz4)"},
		"magic only, zstd":   {"\x28\xb5\x2f\xfd", "cut short"},
		"magic only, xz":     {"\xfd7zXZ\x00", "cut short"},
		"magic only, gzip":   {"\x1f\x8b", "cut short"},
		"junk after zstd":    {squeeze(t, Zstd, good) + "junk", "neither a newc archive"},
		"bomb":               {squeeze(t, Zstd, record("f", modeFile, 1<<21, strings.Repeat("\x00", 1<<21))), "more content than the limit"},
		"zeros without end":  {squeeze(t, Gzip, strings.Repeat("\x00", 1<<21)), "more content than the limit"},
		"long names":         {strings.Repeat(record(strings.Repeat("n", 4000), modeFile, 0, ""), 20) + end, "more content than the limit allows: 68000 bytes in names"},
		"many files":         {strings.Repeat(record("f", modeFile, 0, ""), 101) + end, "more content than the limit"},
		"xz, 4 GiB window":   {xzWithDictionary(t, good, 40), "window above 128 MiB"},
		"zstd, large window": {"\x28\xb5\x2f\xfd\x00\xff" + "\x01\x00\x00", "window"},
	} {
		_, err := list([]byte(tt.image), Limits{Content: 1 << 20, Entries: 100, Names: 1 << 16})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want an error with %q", name, err, tt.want)
		}
	}
}

func cut(s string) string { return s[:len(s)-len(s)/3] }

// xzWithDictionary returns an xz stream whose only block claims the dictionary size of the given property byte.
func xzWithDictionary(t testing.TB, plain string, property byte) string {
	t.Helper()
	b := []byte(squeeze(t, XZ, plain))
	const header = 12
	size := (int(b[header]) + 1) * 4
	at := bytes.Index(b[header:header+size], []byte{0x21, 1})
	if at < 0 {
		t.Fatal("no LZMA2 filter in the block header")
	}
	b[header+at+2] = property
	binary.LittleEndian.PutUint32(b[header+size-4:], crc32.ChecksumIEEE(b[header:header+size-4]))
	return string(b)
}

// The guard must see through every chunk of an ordinary stream, or it would miss the next block header.
func TestXZGuardWalksBlocks(t *testing.T) {
	t.Parallel()
	var plain, packed bytes.Buffer
	for i := range 60_000 {
		binary.Write(&plain, binary.LittleEndian, uint32(i)*2654435761) // hard to compress: stored chunks
	}
	plain.Write(bytes.Repeat([]byte("abc"), 100_000)) // easy: packed ones
	for _, check := range []byte{xz.None, xz.CRC32, xz.CRC64, xz.SHA256} {
		packed.Reset()
		config := xz.WriterConfig{CheckSum: check, NoCheckSum: check == xz.None, BlockSize: 100_000}
		w, err := config.NewWriter(&packed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		const after = "070701 and so on"
		rest := bufio.NewReader(io.MultiReader(bytes.NewReader(packed.Bytes()), strings.NewReader(after)))
		guard := newXZGuard(rest)
		got, err := io.ReadAll(guard)
		if err != nil || !bytes.Equal(got, packed.Bytes()) {
			t.Errorf("check %d: the guard passes %d of %d bytes, %v", check, len(got), packed.Len(), err)
		}
		if left, _ := io.ReadAll(rest); string(left) != after {
			t.Errorf("check %d: behind the stream the guard leaves %.40q, want %q", check, left, after)
		}
		if want := (plain.Len() + 99_999) / 100_000; guard.seen != want {
			t.Errorf("check %d: the guard saw %d blocks of %d", check, guard.seen, want)
		}
	}
}

// The formats that hapax does not write, packed by the usual tools.
func TestReaderOtherFormats(t *testing.T) {
	t.Parallel()
	var plain strings.Builder
	for i := range 3000 { // repeats near and far, and what repeats nothing
		sum := crc32.ChecksumIEEE([]byte{byte(i), byte(i >> 8)})
		plain.WriteString(record("f", modeFile|0o644, 200, strings.Repeat(string(rune('a'+i%26)), 196)+
			string(binary.LittleEndian.AppendUint32(nil, sum))))
	}
	plain.WriteString(record(trailer, 0, 0, ""))
	for _, tool := range [][]string{
		{"bzip2"}, {"xz", "--format=lzma"}, {"lzop", "-1"}, {"lzop", "-9"}, {"lzop", "-F"}, {"lzop", "-3", "--crc32"},
		{"zstd", "-19"}, {"zstd", "--no-check", "--rsyncable"}, {"xz", "-T2", "--block-size=65536"}, {"gzip", "-1"},
	} {
		r := NewReader(strings.NewReader(pack(t, plain.String(), tool...)), Limits{})
		files := 0
		for {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%v: %v", tool, err)
			}
			content, err := io.ReadAll(r)
			if err != nil || int64(len(content)) != h.Size || content[0] != byte('a'+files%26) {
				t.Fatalf("%v: file %d has %d bytes, %.3q, %v", tool, files, len(content), content, err)
			}
			files++
		}
		if files != 3000 || r.ContentBytes() != int64(plain.Len()) {
			t.Errorf("%v: %d files in %d bytes, want 3000 in %d", tool, files, r.ContentBytes(), plain.Len())
		}
	}
}

func TestDecompress(t *testing.T) {
	t.Parallel()
	for _, c := range Compressions() {
		r, format, err := Decompress(strings.NewReader(squeeze(t, c, "a module")))
		if err != nil || format != c {
			t.Fatalf("%s: %q, %v", c, format, err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != "a module" {
			t.Errorf("%s: %q, %v", c, got, err)
		}
	}
	if _, _, err := Decompress(strings.NewReader("\x1f\x8b")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("two bytes of gzip: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	good := record("f", modeFile, 5, "12345") + record("l", modeLink, 1, "x") + record(trailer, 0, 0, "")
	for _, c := range Compressions() {
		f.Add([]byte(squeeze(f, c, good)))
	}
	f.Add([]byte(good + "\x00\x00\x00\x00" + squeeze(f, Gzip, good) + good))
	f.Add([]byte(xzWithDictionary(f, good, 40)))
	f.Fuzz(func(t *testing.T, image []byte) {
		r := NewReader(bytes.NewReader(image), Limits{Content: 1 << 20, Entries: 1000})
		for {
			h, err := r.Next()
			if err != nil {
				if _, again := r.Next(); again == nil {
					t.Fatalf("Next goes on after %v", err)
				}
				return
			}
			if len(h.Name) > maxName || len(h.Link) > maxName {
				t.Fatalf("a name of %d or a target of %d bytes", len(h.Name), len(h.Link))
			}
			if _, err := io.Copy(io.Discard, r); err == nil && r.ContentBytes() > 1<<20 {
				t.Fatalf("%d bytes read, more than the limit", r.ContentBytes())
			}
		}
	})
}

// Whatever Tree accepts reads back as it was.
func FuzzWriteRead(f *testing.F) {
	f.Add("dir/name", "target", []byte("content"), uint32(5), uint16(0o755))
	f.Add("TRAILER!!!x", "\xff", []byte{}, uint32(1<<31), uint16(0o7777))
	f.Fuzz(func(t *testing.T, name, target string, content []byte, dev uint32, perm uint16) {
		var tree Tree
		mode := goMode(uint32(perm)&0o7777 | modeFile)
		node := CharDevice("n", 0, Devno{dev, ^dev})
		if tree.Add(Bytes(name, mode, content)) != nil || tree.Add(Symlink("l", target)) != nil || tree.Add(node) != nil {
			return
		}
		var image bytes.Buffer
		if _, err := Write(&image, tree.Entries(), time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
		seen := 0
		r := NewReader(&image, Limits{})
		for {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case h.Name == name && h.Mode == mode && bytes.Equal(got, content):
				seen++
			case h.Name == "l" && h.Link == target, h.Name == "n" && h.Dev == Devno{dev, ^dev}:
				seen++
			case !h.Mode.IsDir():
				t.Errorf("unexpected %+v", h)
			}
		}
		if seen != 3 {
			t.Errorf("%d of 3 files came back", seen)
		}
	})
}

// pack has one of the usual tools pack a text.
func pack(t *testing.T, plain string, tool ...string) string {
	t.Helper()
	path, err := exec.LookPath(tool[0])
	if err != nil {
		need.Unmet(t, "tests/setup/apt.go names the package of what is missing: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), path, append(tool[1:], "-c")...)
	cmd.Stdin = strings.NewReader(plain)
	packed, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", tool, err)
	}
	return string(packed)
}

// What may stand behind an archive, behind one of bzip2 too.
func TestBzip2Joined(t *testing.T) {
	t.Parallel()
	one := record("one", modeFile|0o644, 5, "12345") + record(trailer, 0, 0, "")
	two := record("two", modeFile|0o644, 0, "") + record(trailer, 0, 0, "")
	b1, b2 := pack(t, one, "bzip2"), pack(t, two, "bzip2")
	for name, tt := range map[string]struct{ image, names, err string }{
		"alone":           {b1, "one", ""},
		"padded":          {b1 + strings.Repeat("\x00", 512), "one", ""},
		"before plain":    {b1 + two, "one two", ""},
		"before gzip":     {b1 + squeeze(t, Gzip, two), "one two", ""},
		"two":             {b1 + b2, "one two", ""},
		"two, padded":     {b1 + strings.Repeat("\x00", 4) + b2, "one two", ""},
		"in two streams":  {pack(t, one[:40], "bzip2") + pack(t, one[40:], "bzip2") + two, "one two", ""},
		"before junk":     {b1 + "junk", "", "neither a newc archive"},
		"cut":             {cut(b1), "", "archive 1 (bzip2)"},
		"cut in the next": {b1 + cut(b2), "", "archive 2 (bzip2)"},
	} {
		lines, err := list([]byte(tt.image), Limits{})
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v; want an error with %q", name, err, tt.err)
			}
			continue
		}
		var names []string
		for line := range strings.Lines(lines) {
			names = append(names, strings.Trim(strings.Fields(line)[7], `"`))
		}
		if err != nil || strings.Join(names, " ") != tt.names {
			t.Errorf("%s: files %q, %v; want %q", name, names, err, tt.names)
		}
	}
}

// The kernel has no CRC64, which is what xz takes when nobody says otherwise.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	one := record("one", modeFile|0o644, 5, "12345") + record(trailer, 0, 0, "")
	for _, check := range []string{"none", "crc32", "crc64", "sha256"} {
		image := one + pack(t, one, "xz", "--check="+check)
		r := NewReader(strings.NewReader(image), Limits{})
		for range 2 {
			if _, err := r.Next(); err != nil {
				t.Fatalf("%s: %v", check, err)
			}
		}
		want := map[string]string{"crc64": "archive 2 is xz with CRC64", "sha256": "archive 2 is xz with SHA-256"}[check]
		if got := strings.Join(r.Unreadable(), ""); !strings.HasPrefix(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: %q, want %q", check, got, want)
		}
	}
}
