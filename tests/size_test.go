package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestInitSize holds the size of the binary that every image carries, unpacks
// and keeps in memory.
func TestInitSize(t *testing.T) {
	t.Parallel()
	const most = 4 << 20
	out := filepath.Join(t.TempDir(), "init")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -E hapax_start", "-o", out, "hapax/init") // as make build does
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	st, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() > most {
		t.Errorf("init has %d bytes, want at most %d", st.Size(), most)
	}
	t.Logf("init has %d KiB of at most %d", st.Size()>>10, most>>10)
}
