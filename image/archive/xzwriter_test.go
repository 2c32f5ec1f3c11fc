package archive

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"hapax/tests/need"
)

// noise returns bytes that nothing makes shorter, as those of a packed file are; others for each seed.
func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{seed})
	_, _ = r.Read(b) // it always fills b
	return b
}

// packedFiles returns what an archive of packed files is to a compressor.
func packedFiles(n int) [][]byte {
	head := []byte(strings.Repeat("070701", 20))
	var parts [][]byte
	for i := range n {
		parts = append(parts, head, noise(20_000, byte(i)))
	}
	return parts
}

func xzStream(t *testing.T, parts [][]byte, split bool) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := newXZWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
		if !split {
			continue
		}
		if err := w.Split(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// What it writes is what the xz package does, as long as it is told of no packed files.
func TestXZLikePackage(t *testing.T) {
	t.Parallel()
	for name, parts := range map[string][][]byte{
		"short": {[]byte("x")}, "text": {[]byte(strings.Repeat("the same again, ", 50_000))}, "noise": {noise(200_001, 0)},
	} {
		var want bytes.Buffer
		w, err := xz.WriterConfig{CheckSum: xz.CRC32, DictCap: window}.NewWriter(&want)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range parts {
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got := xzStream(t, parts, false)
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s: %d bytes are not the %d of the package", name, len(got), want.Len())
		}
		checkXZ(t, name, got, bytes.Join(parts, nil))
	}
	checkXZ(t, "empty", xzStream(t, nil, false), nil)
}

// Packed files between others are stored, each of them whole.
func TestXZSplit(t *testing.T) {
	t.Parallel()
	const files = 20
	parts := packedFiles(files)
	stream := xzStream(t, parts, true)
	checkXZ(t, "split", stream, bytes.Join(parts, nil))
	for i := 1; i < len(parts); i += 2 {
		if !bytes.Contains(stream, parts[i]) {
			t.Errorf("the packed file %d of %d is not stored", i/2, files)
		}
	}
}

// checkXZ reads a stream with our reader and with xz(1).
func checkXZ(t *testing.T, name string, stream, want []byte) {
	t.Helper()
	r, format, err := Decompress(bytes.NewReader(stream))
	if err != nil || format != XZ {
		t.Fatalf("%s: %v, %v", name, format, err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: read back %d bytes of %d, %v", name, len(got), len(want), err)
	}
	need.Tools(t, "xz")
	cmd := exec.CommandContext(t.Context(), "xz", "-dc")
	cmd.Stdin = bytes.NewReader(stream)
	if got, err := cmd.Output(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: xz reads back %d bytes of %d, %v", name, len(got), len(want), err)
	}
}
