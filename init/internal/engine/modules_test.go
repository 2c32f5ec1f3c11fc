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

func TestKernelStack(t *testing.T) {
	t.Parallel()
	tasks := t.TempDir()
	write := func(tid, stack string) {
		if err := os.MkdirAll(filepath.Join(tasks, tid), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tasks, tid, "stack"), []byte(stack), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("12", "[<0>] futex_wait+0x1/0x2\n")
	hung := "[<0>] msleep+0x2d/0x40\n[<0>] init_module+0x12/0x1000 [hung]\n[<0>] do_one_initcall+0x56/0x230\n"
	write("13", hung)
	if got := kernelStack(tasks, "hung"); got != hung {
		t.Errorf("kernelStack = %q, want %q", got, hung)
	}
	if got := kernelStack(tasks, "other"); got != "" {
		t.Errorf("kernelStack of a module without a thread = %q", got)
	}
}
