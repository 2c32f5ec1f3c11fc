package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hapax/tests/internal/debian"
	"hapax/tests/need"
)

// TestWriteGPT has sgdisk read the table back, which knows sectors of 512 bytes in a file. That of larger ones differs in
// nothing but where things are.
func TestWriteGPT(t *testing.T) {
	t.Parallel()
	sgdisk, err := debian.Tool("sgdisk")
	if err != nil {
		need.Unmet(t, "%v: make test as root installs it", err)
	}
	dir := t.TempDir()
	content := filepath.Join(dir, "content")
	if err := os.WriteFile(content, []byte(strings.Repeat("\x00", 1<<17)+"tail"), 0o644); err != nil {
		t.Fatal(err)
	}
	const uuid = "2b2f9a3e-6a1c-4d6b-8f0e-0d8a4f7f0002"
	parts := []Partition{
		{Type: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", UUID: "2b2f9a3e-6a1c-4d6b-8f0e-0d8a4f7f0001", Name: "ESP", Bytes: 1},
		{Type: "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", UUID: uuid, Name: "ein Größe", Bytes: 3<<20 + 1, Content: content},
	}
	for _, sector := range []int64{512, 4096} {
		file := filepath.Join(dir, fmt.Sprint(sector))
		if err := WriteGPT(file, sector, parts); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if size := len(b); size&(size-1) != 0 {
			t.Errorf("%d bytes, want a power of two", size)
		}
		if at := 2<<20 + 1<<17; string(b[at:at+4]) != "tail" {
			t.Errorf("sector %d: no content where the second partition is", sector)
		}
		if at := len(b) - int(sector); string(b[sector:sector+8]) != "EFI PART" || string(b[at:at+8]) != "EFI PART" {
			t.Errorf("sector %d: no two headers", sector)
		}
	}
	for args, want := range map[string]string{
		"-v":   "No problems found",
		"-i=2": "Partition unique GUID: " + strings.ToUpper(uuid),
	} {
		out, err := exec.CommandContext(t.Context(), sgdisk, args, filepath.Join(dir, "512")).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("sgdisk %s: %v: %s, want %q", args, err, out, want)
		}
	}
	if err := WriteGPT(filepath.Join(dir, "bad"), 512, []Partition{{Type: "c12a7328"}}); err == nil {
		t.Error("a GUID of 4 bytes was taken")
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "shadow")
	if err := os.WriteFile(file, []byte("daemon:*:1\nroot:*:2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replace(file, "root:*:", "root::"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "daemon:*:1\nroot::2\n" {
		t.Errorf("the file holds %q, %v", got, err)
	}
	if err := replace(file, "root:*:", "root::"); err == nil {
		t.Error("what is not there was replaced")
	}
}
