package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ucpio "github.com/u-root/u-root/pkg/cpio"

	"hapax/tests/need"
)

// sample is an image with every type of file, with sizes and names of each alignment.
func sample(t *testing.T) []Entry {
	t.Helper()
	var tree Tree
	for _, e := range []Entry{
		Bytes("init", 0o755, []byte("#!")),
		CharDevice("dev/console", 0o600, Devno{5, 1}),
		CharDevice("dev/null", 0o666, Devno{1, 3}),
		{Name: "dev/vda", Mode: fs.ModeDevice | 0o660, Dev: Devno{254, 16}},
		Dir("tmp", fs.ModeSticky|0o777),
		Symlink("bin/sh", "../bbin/gosh"),
		Bytes("bin/su", fs.ModeSetuid|0o755, bytes.Repeat([]byte("x"), 4097)),
		Bytes("a/b/c/d", 0o644, []byte("123")),
		Bytes("a/b/empty", 0o400, nil),
		Bytes("a/ÿ name", 0o644, []byte("12345")),
	} {
		if err := tree.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	return tree.Entries()
}

// packed returns the sample as an image.
func packed(t *testing.T, c Compression) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := NewCompressor(&b, c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Write(z, sample(t), time.Unix(1700000000, 0)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if c == None && int64(b.Len()) != Size(sample(t)) {
		t.Errorf("Size = %d, but %d bytes were written", Size(sample(t)), b.Len())
	}
	return b.Bytes()
}

// list returns one line for each file of an image and the error that ended the list.
func list(image []byte, limits Limits) (string, error) {
	var lines strings.Builder
	r := NewReader(bytes.NewReader(image), limits)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines.String(), nil
		}
		if err != nil {
			return lines.String(), err
		}
		fmt.Fprintf(&lines, "%d %d %v %d:%d %d %d,%d %d %q %q\n",
			h.Part, h.Inode, h.Mode, h.UID, h.GID, h.Size, h.Dev.Major, h.Dev.Minor, h.ModTime.Unix(), h.Name, h.Link)
	}
}

const golden = `0 1 drwxr-xr-x 0:0 0 0,0 1700000000 "a" ""
0 2 drwxr-xr-x 0:0 0 0,0 1700000000 "a/b" ""
0 3 drwxr-xr-x 0:0 0 0,0 1700000000 "a/b/c" ""
0 4 -rw-r--r-- 0:0 3 0,0 1700000000 "a/b/c/d" ""
0 5 -r-------- 0:0 0 0,0 1700000000 "a/b/empty" ""
0 6 -rw-r--r-- 0:0 5 0,0 1700000000 "a/ÿ name" ""
0 7 drwxr-xr-x 0:0 0 0,0 1700000000 "bin" ""
0 8 Lrwxrwxrwx 0:0 0 0,0 1700000000 "bin/sh" "../bbin/gosh"
0 9 urwxr-xr-x 0:0 4097 0,0 1700000000 "bin/su" ""
0 10 drwxr-xr-x 0:0 0 0,0 1700000000 "dev" ""
0 11 Dcrw------- 0:0 0 5,1 1700000000 "dev/console" ""
0 12 Dcrw-rw-rw- 0:0 0 1,3 1700000000 "dev/null" ""
0 13 Drw-rw---- 0:0 0 254,16 1700000000 "dev/vda" ""
0 14 -rwxr-xr-x 0:0 2 0,0 1700000000 "init" ""
0 15 dtrwxrwxrwx 0:0 0 0,0 1700000000 "tmp" ""
`

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, c := range Compressions() {
		t.Run(string(c), func(t *testing.T) {
			t.Parallel()
			image := packed(t, c)
			got, err := list(image, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(golden, got); diff != "" {
				t.Errorf("listing (-want +got):\n%s", diff)
			}
			if again := packed(t, c); !bytes.Equal(image, again) {
				t.Error("the same entries gave other bytes the second time")
			}
		})
	}
}

// u-root's reader is the oracle for what the records say, content included.
func TestReadBackWithURoot(t *testing.T) {
	t.Parallel()
	records, err := ucpio.ReadAllRecords(ucpio.Newc.Reader(bytes.NewReader(packed(t, None))))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range records {
		var content []byte
		if r.ReaderAt != nil {
			if content, err = io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize))); err != nil {
				t.Fatal(err)
			}
		}
		got = append(got, fmt.Sprintf("%s %o %d %d,%d %.12s", r.Name, r.Mode, r.FileSize, r.Rmajor, r.Rminor, content))
	}
	want := []string{
		"a 40755 0 0,0 ", "a/b 40755 0 0,0 ", "a/b/c 40755 0 0,0 ", "a/b/c/d 100644 3 0,0 123", "a/b/empty 100400 0 0,0 ",
		"a/ÿ name 100644 5 0,0 12345", "bin 40755 0 0,0 ", "bin/sh 120777 12 0,0 ../bbin/gosh",
		"bin/su 104755 4097 0,0 xxxxxxxxxxxx", "dev 40755 0 0,0 ", "dev/console 20600 0 5,1 ", "dev/null 20666 0 1,3 ",
		"dev/vda 60660 0 254,16 ", "init 100755 2 0,0 #!", "tmp 41777 0 0,0 ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// GNU cpio is the oracle for alignment and the trailer: it warns about every byte that it does not expect.
func TestReadBackWithCpio(t *testing.T) {
	t.Parallel()
	need.Tools(t, "cpio")
	cmd := exec.CommandContext(t.Context(), "cpio", "-itv", "--numeric-uid-gid", "--quiet")
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	cmd.Stdin = bytes.NewReader(packed(t, None))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	for _, want := range []string{
		"crw-------   1 0        0          5,   1 Nov 14  2023 dev/console\n",
		"brw-rw----   1 0        0        254,  16 Nov 14  2023 dev/vda\n",
		"bin/sh -> ../bbin/gosh\n",
		"-rwsr-xr-x   1 0        0            4097 Nov 14  2023 bin/su\n",
		"drwxrwxrwt   2 0        0               0 Nov 14  2023 tmp\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("cpio -itv lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "cpio:") || strings.Count(string(out), "\n") != 15 {
		t.Errorf("cpio -itv complains or lists other than 15 files:\n%s", out)
	}
}

func TestCompressedForms(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		c      Compression
		prefix string
		tool   string
		args   []string
	}{
		{Zstd, "\x28\xb5\x2f\xfd", "zstd", []string{"-dc", "--memory=8MB"}},
		{XZ, "\xfd7zXZ\x00\x00\x01", "xz", []string{"-dc"}}, // check type 1: CRC32
		{Gzip, "\x1f\x8b\x08\x00\x00\x00\x00\x00", "gzip", []string{"-dc"}},
		{LZ4, "\x02\x21\x4c\x18", "lz4", []string{"-dc"}},
	} {
		t.Run(string(tt.c), func(t *testing.T) {
			t.Parallel()
			image := packed(t, tt.c)
			if !bytes.HasPrefix(image, []byte(tt.prefix)) {
				t.Errorf("begins with %q, want %q", image[:len(tt.prefix)], tt.prefix)
			}
			need.Tools(t, tt.tool)
			cmd := exec.CommandContext(t.Context(), tt.tool, tt.args...)
			if tt.c == LZ4 {
				image = image[:lz4End(image)] // the tool does not know the kernel's end of a stream
			}
			cmd.Stdin = bytes.NewReader(image)
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out, packed(t, None)) {
				t.Errorf("%s unpacks to other bytes", tt.tool)
			}
		})
	}
}

// lz4End returns where the block of size 0 of a legacy frame begins.
func lz4End(image []byte) int {
	end := 4
	for size := -1; size != 0; end += size {
		size = int(binary.LittleEndian.Uint32(image[end:]))
		if size != 0 {
			end += 4
		}
	}
	return end
}

func TestTreeRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		e    Entry
		want string
	}{
		{"absolute", Bytes("/init2", 0o755, nil), "clean relative"},
		{"dots", Bytes("a/../b", 0o755, nil), "clean relative"},
		{"empty", Bytes("", 0o755, nil), "clean relative"},
		{"root", Dir(".", 0o755), "clean relative"},
		{"trailer", Bytes("TRAILER!!!", 0o644, nil), "would end early"},
		{"NUL", Bytes("a\x00b", 0o644, nil), "would end early"},
		{"long", Bytes(strings.Repeat("x", 4096), 0o644, nil), "4096 bytes, at most 4095"},
		{"large", Entry{Name: "big", Size: 1 << 32}, "4 GiB"},
		{"negative", Entry{Name: "big", Size: -1}, "4 GiB"},
		{"empty link", Symlink("l", ""), "link target"},
		{"long link", Symlink("l", strings.Repeat("x", 4096)), "link target"},
		{"socket", Entry{Name: "s", Mode: fs.ModeSocket}, "cannot be put"},
		{"twice", Bytes("init", 0o755, nil), "already exists"},
		{"folder over file", Dir("init", 0o755), "already exists"},
		{"file over folder", Bytes("dev", 0o755, nil), "already exists"},
		{"below a file", Bytes("init/x", 0o755, nil), "init is not a folder"},
		{"far below a file", Bytes("init/x/y", 0o755, nil), "init is not a folder"},
	} {
		tree := Tree{}
		for _, e := range []Entry{Bytes("init", 0o755, nil), Dir("dev", 0o755), Dir("dev", 0o700)} {
			if err := tree.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := tree.Add(tt.e); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Add = %v, want an error with %q", tt.name, err, tt.want)
		}
		if len(tree.Entries()) != 2 {
			t.Errorf("%s: the refused entry left traces: %v", tt.name, tree.Entries())
		}
	}
}

func TestWriteNoticesChangedFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("1234"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() (io.ReadCloser, error) { return os.Open(file) }
	for size, want := range map[int64]error{3: ErrChanged, 4: nil, 5: ErrChanged} {
		_, err := Write(io.Discard, []Entry{{Name: "f", Size: size, Open: open}}, time.Unix(0, 0))
		if !errors.Is(err, want) {
			t.Errorf("Write with size %d = %v, want %v", size, err, want)
		}
	}
	if _, err := Write(io.Discard, []Entry{{Name: "f", Size: 4}}, time.Unix(0, 0)); err == nil {
		t.Error("Write of a file with a size and no content succeeded")
	}
	for _, mtime := range []time.Time{{}, time.Unix(1<<32, 0)} {
		if _, err := Write(io.Discard, nil, mtime); err == nil {
			t.Errorf("Write with time %v succeeded", mtime)
		}
	}
}

// A file with three names has one inode, and its content once, with the last of them; GNU cpio makes one file of it.
func TestHardLinks(t *testing.T) {
	t.Parallel()
	entries := []Entry{
		HardLink("a", "c", 0o640), {Name: "b", Mode: 0o644, Size: 1, Open: Bytes("", 0, []byte("b")).Open},
		Bytes("c", 0o640, []byte("content")), HardLink("d", "c", 0o640),
	}
	var b bytes.Buffer
	if _, err := Write(&b, entries, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	if int64(b.Len()) != Size(entries) {
		t.Errorf("Size = %d, but %d bytes were written", Size(entries), b.Len())
	}
	records, err := ucpio.ReadAllRecords(ucpio.Newc.Reader(bytes.NewReader(b.Bytes())))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range records {
		got = append(got, fmt.Sprintf("%s ino %d links %d size %d", r.Name, r.Ino, r.NLink, r.FileSize))
	}
	want := []string{"a ino 1 links 3 size 0", "b ino 2 links 1 size 1", "c ino 1 links 3 size 0", "d ino 1 links 3 size 7"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	need.Tools(t, "cpio")
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "cpio", "-i", "--quiet")
	cmd.Dir, cmd.Stdin = dir, &b
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("cpio -i: %v\n%s", err, out)
	}
	first, err := os.Stat(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"c", "d"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || !os.SameFile(first, info) || info.Size() != 7 {
			t.Errorf("cpio made %s of %v, %v; want the file that a is, 7 bytes", name, info, err)
		}
	}
}

func TestHardLinksRefused(t *testing.T) {
	t.Parallel()
	file := Bytes("file", 0o644, []byte("x"))
	for name, entries := range map[string][]Entry{
		"is no file of the image": {HardLink("a", "absent", 0o644)},
		"has the mode":            {HardLink("a", "file", 0o600), file},
		"no file of the":          {Dir("folder", 0o755), HardLink("z", "folder", 0o644)},
		"content of its own":      {file, {Name: "z", Mode: 0o644, Hard: "file", Size: 1}},
	} {
		if _, err := Write(io.Discard, entries, time.Unix(0, 0)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Write = %v, want an error with %q", err, name)
		}
	}
}
