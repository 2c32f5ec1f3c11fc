package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestInitSize holds the size of the binary that every image carries, unpacks and keeps in memory, and of the one that is in
// those that stay.
func TestInitSize(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, pkg, tags, flags string // as make build does
		most                   int64
	}{
		{"init", "hapax/init", "purego", "-s -w -E hapax_start", 4 << 20},
		{"extra", "hapax/init/extra", "", "-s -w", 4 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), tt.name)
			cmd := exec.Command("go", "build", "-trimpath", "-tags="+tt.tags, "-ldflags="+tt.flags, "-o", out, tt.pkg)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			st, err := os.Stat(out)
			if err != nil {
				t.Fatal(err)
			}
			if st.Size() > tt.most {
				t.Errorf("%s has %d bytes, want at most %d", tt.name, st.Size(), tt.most)
			}
			t.Logf("%s has %d KiB of at most %d", tt.name, st.Size()>>10, tt.most>>10)
		})
	}
}
