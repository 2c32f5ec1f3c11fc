package engine

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/init/internal/rootdev"
	"hapax/modload"
)

func TestOverdueText(t *testing.T) {
	t.Parallel()
	text := overdueText(overdue{
		ref:    "UUID=1234",
		waited: "1m30s",
		disks: []rootdev.Seen{
			{Device: rootdev.Device{Name: "vda"}, Size: 4096, Info: rootdev.Info{Type: "ext4", UUID: "77", Label: "\x1b[2J"}},
			{Device: rootdev.Device{Name: "sda"}, Size: 512, Err: errors.New("input/output error")},
		},
		modules: []modload.Module{
			{Name: "nvme", State: modload.Failed, Error: "load nvme: dependency nvme_core: exec format error"},
			{Name: "evdev", State: modload.Live},
			{Name: "floppy", State: modload.Refused},
			{Name: "hung", State: modload.Inserting},
		},
		missing: map[string][]string{"pci:other": {"mlx4_core", "mlx4_en"}},
		refusal: "mount on /sysroot: tag as virtiofs: invalid argument",
		idle:    []string{"cpu:" + strings.Repeat("x", 500), "input:1", "pci:nvme", "pci:odd", "pci:other", "platform:floppy"},
		lookup: func(alias string) []string {
			return map[string][]string{
				"input:1": {"evdev"}, "pci:nvme": {"nvme"}, "platform:floppy": {"floppy", "pcspkr"},
			}[alias]
		},
	})
	want := `root=UUID=1234 has not appeared within 1m30s (hapax.timeout=).
the last try:
  mount on /sysroot: tag as virtiofs: invalid argument
block devices seen:
  /dev/vda: 4096 bytes, ext4, UUID=77, LABEL="\x1b[2J"
  /dev/sda: 512 bytes: input/output error
modules that could not be loaded:
  load nvme: dependency nvme_core: exec format error
modules that are not loaded yet:
  hung inserting
devices without a driver:
  cpu:` + strings.Repeat("x", 76) + `... (no module in this image)
  pci:nvme (nvme failed)
  pci:odd (no module in this image)
  pci:other (not in this image; add it by hapax build --modules mlx4_core,mlx4_en)
  platform:floppy (floppy refused, pcspkr blacklisted)
`
	if diff := cmp.Diff(want, text); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	if text := overdueText(overdue{ref: "/dev/sda", waited: "3s"}); !strings.HasSuffix(text, "block devices seen:\n  none\n") {
		t.Errorf("without anything: %q", text)
	}
}

func TestDriverless(t *testing.T) {
	t.Parallel()
	sysfs := t.TempDir()
	device := func(path, alias string, bound bool) {
		dir := filepath.Join(sysfs, "devices", path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string]string{"uevent": "MODALIAS=" + alias + "\n", "modalias": alias + "\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if bound {
			if err := os.Symlink("../../drivers/x", filepath.Join(dir, "driver")); err != nil {
				t.Fatal(err)
			}
		}
	}
	device("pci0/a", "pci:a", true)
	device("pci0/b", "pci:b", false)
	device("pci0/c", "pci:b", false)
	device("pci0/a/d", "pci:0", false)
	if diff := cmp.Diff([]string{"pci:0", "pci:b"}, driverless(sysfs)); diff != "" {
		t.Errorf("driverless (-want +got):\n%s", diff)
	}
}
