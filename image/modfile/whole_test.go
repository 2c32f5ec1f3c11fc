package modfile

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// Every truncation of a packed module is found, and every overwritten end of an xz file.
func TestCheckEnd(t *testing.T) {
	t.Parallel()
	content := make([]byte, 300_000)
	rand.NewChaCha8([32]byte{1}).Read(content[:100_000]) // of all kinds of blocks: stored, repeated, compressed
	copy(content[200_000:], bytes.Repeat([]byte("module"), 10_000))
	for name, pack := range packings() {
		packed := pack(t, content)
		if err := CheckEnd(packed); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "plain" || name == "gzip" {
			continue
		}
		for n := len("\xfd7zXZ\x00"); n < len(packed); n += 1 + n/1000 {
			if err := CheckEnd(packed[:n]); !errors.Is(err, errCut) {
				t.Fatalf("%s: the first %d of %d bytes: %v", name, n, len(packed), err)
			}
		}
		if name != "xz" {
			continue
		}
		for i := len(packed) - 12; i < len(packed); i++ {
			packed[i] ^= 1
			if err := CheckEnd(packed); !errors.Is(err, errCut) {
				t.Errorf("%s: byte %d of %d is another: %v", name, i, len(packed), err)
			}
			packed[i] ^= 1
		}
	}
}

func FuzzCheckEnd(f *testing.F) {
	f.Add([]byte("\xfd7zXZ\x00\x00\x01\x69\x22\xde\x36\x00\x00\x00\x00\x1c\xdf\x44\x21\x90\x42\x99\x0d\x00\x00\x00\x00\x01YZ"))
	f.Add([]byte("\x28\xb5\x2f\xfd\x24\x02\x11\x00\x00ab\x00\x00\x00\x00"))
	f.Fuzz(func(_ *testing.T, file []byte) {
		_ = CheckEnd(file) // it may say anything, and must not panic
	})
}
