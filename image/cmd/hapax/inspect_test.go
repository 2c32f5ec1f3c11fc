package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// twoImages builds two images that differ in a file.
func twoImages(t *testing.T) (tree, a, b string) {
	t.Helper()
	tree, init := moduleTree(t)
	dir := t.TempDir()
	a, b = filepath.Join(dir, "a.img"), filepath.Join(dir, "b.img")
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{a}, {"--include", file + ":etc/file", "--compression", "zstd", b}} {
		args = append([]string{"build", "--modules-dir", tree, "--init", init, "--mode", "all"}, args...)
		if code, _, stderr := hapax(t, args...); code != exitDone {
			t.Fatal(stderr)
		}
	}
	return tree, a, b
}

func TestInspect(t *testing.T) {
	t.Parallel()
	tree, a, b := twoImages(t)
	dir := filepath.Join(t.TempDir(), "new")
	for _, tt := range []struct {
		args   []string
		code   int
		stdout string // a part of it
		stderr string
	}{
		{[]string{"cat", b, "etc/file", "/etc/initrd-release"}, 0, "content\nID=hapax\n", ""},
		{[]string{"cat", b, "nowhere"}, 1, "", "there is no nowhere in it"},
		{[]string{"cat", b, "etc"}, 1, "", "etc is no regular file"},
		{[]string{"ls", "--modules", a}, 0, "         6 virtio lib/modules/6.1-test/kernel/drivers/virtio/virtio.ko\n", ""},
		{[]string{"ls", "--sizes", a}, 0, "         2     1 init\n", ""},
		{[]string{"ls", "--json", b}, 0, `"module": "virtio_blk"`, ""},
		{[]string{"diff", a, a}, 0, "0 files removed, 0 added, 0 changed\n", ""},
		{[]string{"diff", a, b}, 1, "+ etc/file (8 bytes)\n", ""},
		{[]string{"diff", "--json", a, b}, 1, `"path": "etc/file"`, ""},
		{[]string{"diff", a, "/nonexistent"}, 1, "", "/nonexistent: no such file"},
		{[]string{"unpack", b, dir}, 0, "without 3 device nodes", ""},
		{[]string{"unpack", b, dir}, 1, "", "is not empty"},
		{[]string{"unpack", "--max-files", "3", b, dir + "2"}, 1, "", "more content than the limit allows: 4 files; " + dir + "2 has the files before"},
		{[]string{"unpack", "--json", "--max-size", "1M", b, dir + "3"}, 0, `"skipped": 3`, ""},
		{[]string{"check", "--modules-dir", tree, a}, 1, "error: /init: ", ""},
		{[]string{"check", "--modules-dir", tree, "--json", a}, 1, `"kind": "init"`, ""},
		{[]string{"check", "--profile", "/nonexistent", a}, 1, "", "/nonexistent: no such file"},
		{[]string{"check", "--sysfs", tree, a}, 1, "", "has no folder devices"},
		{[]string{"check", tree}, 1, "", "not a regular file"},
	} {
		code, stdout, stderr := hapax(t, tt.args...)
		if code != tt.code || !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) || (tt.stderr == "") != (stderr == "") {
			t.Errorf("hapax %s = %d, %q, %q; want %d, %q, %q", strings.Join(tt.args, " "), code, stdout, stderr, tt.code, tt.stdout, tt.stderr)
		}
	}
	if content, err := os.ReadFile(filepath.Join(dir, "etc/file")); err != nil || string(content) != "content\n" {
		t.Errorf("unpacked etc/file is %q, %v", content, err)
	}
}

// A copy of some machine's /sys, wherever it lies.
func TestCheckSysfs(t *testing.T) {
	t.Parallel()
	tree, a, _ := twoImages(t)
	if err := os.WriteFile(filepath.Join(tree, "modules.alias"), []byte("alias virtio:d2* virtio_blk\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sys", "copy"} {
		sysfs := filepath.Join(t.TempDir(), name)
		device := filepath.Join(sysfs, "devices/pci0/virtio0")
		if err := os.MkdirAll(device, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(device, "modalias"), []byte("virtio:d2v1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		_, stdout, stderr := hapax(t, "check", "--modules-dir", tree, "--json", "--sysfs", sysfs, a)
		var report struct {
			Machine string
			Devices struct{ Total, Served int }
		}
		if err := json.Unmarshal([]byte(stdout), &report); err != nil {
			t.Fatalf("%v\n%s", err, stderr)
		}
		if report.Machine != sysfs || report.Devices.Total != 1 || report.Devices.Served != 1 {
			t.Errorf("%s: %+v, want one device, which the image drives", name, report)
		}
	}
}
