package modfile

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// module returns something that lies around strings as a .modinfo section does.
func module(before string, strings ...string) string {
	info := ""
	for _, s := range strings {
		info += s + "\x00"
	}
	return "\x7fELF" + before + info + "\x00\x00.symtab\x00license=of something else\x00"
}

func TestReadInfo(t *testing.T) {
	t.Parallel()
	whole := []string{"license=GPL", "firmware=a/b.bin", "description=has = and\nlines", "depends=", "vermagic=6.12 SMP"}
	for name, tt := range map[string]struct {
		content string
		want    []string
	}{
		"after a NUL":      {module("text\x00", whole...), whole},
		"after a byte":     {module("\xc3", whole...), whole},
		"after a letter":   {module("\x00x", whole...), whole},
		"after = and junk": {module("\x00?=\x01", whole...), whole},
		"across pieces":    {module(strings.Repeat("z", infoStep-20)+"\x00", whole...), whole},
		"far in":           {module(strings.Repeat("z\x00", 3*infoStep), whole...), whole},
		"at the very end":  {"\x00" + strings.Join(whole, "\x00") + "\x00", whole},
		"modpost's strings in another order": {module("\x00", "license=GPL", "vermagic=6", "name=x", "intree=Y"),
			[]string{"license=GPL", "vermagic=6", "name=x", "intree=Y"}},
		"only a word":  {"\x00vermagic=%s\x00 and text", nil},
		"none":         {"block", nil},
		"empty":        {"", nil},
		"cut short":    {"\x00license=GPL\x00vermagic=6", nil},
		"a word first": {"\x00vermagic=%s\x00\x01" + module("\x00", whole...), whole},
	} {
		for packing, pack := range packings() {
			got, err := ReadInfo(bytes.NewReader(pack(t, []byte(tt.content))))
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("%s, %s: %v (-want +got):\n%s", name, packing, err, diff)
			}
		}
	}
	if got := Values(whole, "firmware"); len(got) != 1 || got[0] != "a/b.bin" {
		t.Errorf("Values = %q", got)
	}
}

func packings() map[string]func(*testing.T, []byte) []byte {
	through := func(open func(io.Writer) (io.WriteCloser, error)) func(*testing.T, []byte) []byte {
		return func(t *testing.T, content []byte) []byte {
			t.Helper()
			var b bytes.Buffer
			z, err := open(&b)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := z.Write(content); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		}
	}
	return map[string]func(*testing.T, []byte) []byte{
		"plain": func(_ *testing.T, content []byte) []byte { return content },
		"gzip":  through(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }),
		"zstd":  through(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),
		"xz": through(func(w io.Writer) (io.WriteCloser, error) {
			return xz.WriterConfig{CheckSum: xz.CRC32}.NewWriter(w)
		}),
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	content := bytes.Repeat([]byte("module"), 1000)
	for name, pack := range packings() {
		file := filepath.Join(dir, name)
		packed := pack(t, content)
		if err := os.WriteFile(file, packed, 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := Open(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if name == "plain" {
			continue
		}
		if err := os.WriteFile(file, packed[:len(packed)/2], 0o644); err != nil {
			t.Fatal(err)
		}
		if info, err := Info(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("Info of half a %s file = %q, %v", name, info, err)
		}
	}
	if _, err := Open(filepath.Join(dir, "absent")); !os.IsNotExist(err) && err == nil {
		t.Errorf("Open of no file = %v", err)
	}
}

func FuzzReadInfo(f *testing.F) {
	f.Add([]byte(module("\x00", "license=GPL", "vermagic=6")))
	f.Add([]byte("\x1f\x8b"))
	f.Add([]byte("\xfd7zXZ\x00"))
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := ReadInfo(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, s := range info {
			if !isPair([]byte(s)) {
				t.Errorf("%q is no KEY=VALUE", s)
			}
		}
	})
}
