package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/tests/internal/guest"
)

func TestDevices(t *testing.T) {
	sysfs := t.TempDir()
	for _, dir := range []string{"devices/pci0/bare", "devices/pci0/unbound", "devices/pci0/bound", "bus/pci/drivers/virtio-pci"} {
		if err := os.MkdirAll(filepath.Join(sysfs, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(sysfs, "devices/pci0/unbound/modalias"), []byte("pci:v1\n"), 0o644),
		os.Symlink("../../../bus/pci/drivers/virtio-pci", filepath.Join(sysfs, "devices/pci0/bound/driver")),
		os.Symlink("..", filepath.Join(sysfs, "devices/pci0/bound/subsystem")), // not followed
	); err != nil {
		t.Fatal(err)
	}
	got, err := devices(sysfs)
	if err != nil {
		t.Fatal(err)
	}
	want := []guest.Device{{Path: "/devices/pci0/bound", Driver: "virtio-pci"}, {Path: "/devices/pci0/unbound", Modalias: "pci:v1"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("devices (-want +got):\n%s", d)
	}
}

func TestRecorder(t *testing.T) {
	r := &recorder{}
	for _, path := range []string{"/a", "/b", "/c"} {
		r.add(guest.Uevent{DevPath: path}, nil)
	}
	if got, err := r.since(1); err != nil || len(got) != 2 || got[0].DevPath != "/b" {
		t.Errorf("since(1) = %v, %v, want /b and /c", got, err)
	}
	if got, err := r.since(3); err != nil || got == nil || len(got) != 0 {
		t.Errorf("since(3) = %v, %v, want an empty list", got, err)
	}
	if got, err := r.since(4); err == nil {
		t.Errorf("since(4) = %v, want an error", got)
	}
	lost := errors.New("lost")
	r.add(guest.Uevent{}, lost)
	if got, err := r.since(0); !errors.Is(err, lost) {
		t.Errorf("since after a loss = %v, %v, want the loss", got, err)
	}
}

func TestDo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "long")
	if err := os.WriteFile(file, []byte(strings.Repeat("x", maxCat+1)), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := do(guest.Cat, file, nil)
	if s, ok := got.(string); err != nil || !ok || len(s) != maxCat {
		t.Errorf("cat of a long file: %d bytes, %v, want %d", len(s), err, maxCat)
	}
	if got, err := do(guest.List, filepath.Dir(file), nil); err != nil || cmp.Diff([]string{"long"}, got) != "" {
		t.Errorf("ls = %v, %v", got, err)
	}
	if got, err := do("dance", "", nil); err == nil {
		t.Errorf("an unknown command gives %v", got)
	}
	clock, ok := must(do(guest.Clocks, "", nil)).(guest.Clock)
	if !ok || clock.Monotonic <= 0 || clock.Boottime < clock.Monotonic {
		t.Errorf("clock = %+v, want a running one", clock)
	}
}

func must(result any, err error) any {
	if err != nil {
		return err
	}
	return result
}
