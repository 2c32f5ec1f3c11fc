package modload

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	kgzip "github.com/klauspost/compress/gzip"
	ulikunitz "github.com/ulikunitz/xz"

	"hapax/tests/need"
)

// BenchmarkDecompress unpacks the file systems of the first tree of
// HAPAX_TEST_MODULES whose modules are compressed, each packed anew, with the
// codecs that were chosen and those that were not (adr/0001-codecs.md).
// Without such a tree it unpacks made-up content, which tells less.
func BenchmarkDecompress(b *testing.B) {
	plain := benchModules(b)
	var size int64
	for _, p := range plain {
		size += int64(len(p))
	}
	chosen := func(compression string) func(io.Reader) (io.Reader, error) {
		return func(r io.Reader) (io.Reader, error) { return newDecoder(compression, r) }
	}
	for _, codec := range []struct {
		compression, name string
		open              func(io.Reader) (io.Reader, error)
	}{
		{"gzip", "chosen", chosen("gzip")},
		{"gzip", "klauspost", func(r io.Reader) (io.Reader, error) { return kgzip.NewReader(r) }},
		{"xz", "chosen", chosen("xz")},
		{"xz", "ulikunitz", func(r io.Reader) (io.Reader, error) { return ulikunitz.NewReader(r) }},
		{"zstd", "chosen", chosen("zstd")},
	} {
		packed := make([][]byte, len(plain))
		for i, p := range plain {
			packed[i] = pack(b, codec.compression, p)
		}
		b.Run(codec.compression+"/"+codec.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(size)
			for b.Loop() {
				for _, p := range packed {
					r, err := codec.open(bytes.NewReader(p))
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, io.LimitReader(r, maxUnpacked)); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func benchModules(b *testing.B) [][]byte {
	b.Helper()
	for _, tree := range need.Trees(b) {
		files, err := filepath.Glob(filepath.Join(tree, "kernel/fs/*/*.ko.xz"))
		if err != nil || len(files) == 0 {
			continue
		}
		var plain [][]byte
		for _, file := range files {
			packed, err := os.ReadFile(file)
			if err != nil {
				b.Fatal(err)
			}
			p, err := unpacked("xz", packed)
			if err != nil {
				b.Fatalf("%s: %v", file, err)
			}
			plain = append(plain, p)
		}
		return plain
	}
	return [][]byte{moduleLike(1 << 20), moduleLike(100_000), moduleLike(10_000)}
}
