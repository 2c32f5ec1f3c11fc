package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// put writes files below a folder.
func put(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestModuleFiles(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]string{"modules.dep.bin": "", "kernel/drivers/virtio-rng.ko": "", "kernel/fs/xfs.ko.xz": "", "kernel/fs/notes.txt": ""})
	got, err := moduleFiles(dir)
	want := map[string]string{"virtio_rng": "kernel/drivers/virtio-rng.ko", "xfs": "kernel/fs/xfs.ko.xz"}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("moduleFiles: %v (-want +got):\n%s", err, d)
	}
}

func TestFreshAliases(t *testing.T) {
	sysfs := t.TempDir()
	put(t, sysfs, map[string]string{"devices/b/modalias": "pci:b\n", "devices/a/modalias": "pci:a\n", "devices/c/modalias": "pci:a\n"})
	tried := make(map[string]bool)
	for _, want := range [][]string{{"pci:a", "pci:b"}, nil} {
		if got, err := freshAliases(sysfs, tried); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("freshAliases = %v, %v, want %v", got, err, want)
		}
	}
	put(t, sysfs, map[string]string{"devices/b/child/modalias": "virtio:d2\n"})
	if got, err := freshAliases(sysfs, tried); err != nil || cmp.Diff([]string{"virtio:d2"}, got) != "" {
		t.Errorf("freshAliases = %v, %v, want the new one alone", got, err)
	}
}

func TestTrigger(t *testing.T) {
	sysfs := t.TempDir()
	put(t, sysfs, map[string]string{"devices/a/uevent": "DRIVER=x", "devices/a/b/uevent": "", "devices/a/modalias": "pci:a"})
	if err := trigger(sysfs); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"a/uevent": "add", "a/b/uevent": "add", "a/modalias": "pci:a"} {
		if got, err := os.ReadFile(filepath.Join(sysfs, "devices", file)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", file, got, err, want)
		}
	}
}

func TestFindSocket(t *testing.T) {
	const text = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n" +
		"0000000000000000 15  77         00000001 0        0        0     2        0        1\n" +
		"0000000000000000 15  78         00000001 2304     0        0     2        0        2\n" +
		"0000000000000000 0   79         00000001 2304     0        0     2        0        3\n"
	for pid, want := range map[int][2]bool{77: {true, false}, 78: {true, true}, 79: {}, 7: {}} {
		if found, queued := findSocket(text, pid); found != want[0] || queued != want[1] {
			t.Errorf("findSocket(%d) = %v, %v, want %v", pid, found, queued, want)
		}
	}
}
