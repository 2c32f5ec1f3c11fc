package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFindModules(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if dir, err := findModules(filepath.Join(root, "none"), "6.1.0"); dir != "" || err != nil {
		t.Errorf("an image without modules: %q, %v; want neither", dir, err)
	}
	if err := os.MkdirAll(filepath.Join(root, "6.12.0-amd64"), 0o755); err != nil {
		t.Fatal(err)
	}
	if dir, err := findModules(root, "6.12.0-amd64"); err != nil || dir != filepath.Join(root, "6.12.0-amd64") {
		t.Errorf("the right release: %q, %v", dir, err)
	}
	_, err := findModules(root, "6.1.0-amd64")
	if err == nil || !strings.Contains(err.Error(), "for kernel 6.12.0-amd64") || !strings.Contains(err.Error(), "kernel is 6.1.0-amd64") {
		t.Errorf("another release: %v, want both releases named", err)
	}
}
