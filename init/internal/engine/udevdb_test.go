package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/init/internal/rootdev"
)

// What the real root's udev is left with: an entry for each mapped device, none for disks.
func TestKeepMapped(t *testing.T) {
	t.Parallel()
	sys, data := t.TempDir(), filepath.Join(t.TempDir(), "udev/data")
	e := &engine{sysfs: sys}
	e.keepMapped(data) // before there are blocks
	e.blocks = newBlocks(rootdev.New(rootdev.Ref{}, nil), t.Logf)
	offer := func(name string, major uint32) {
		dev := rootdev.Device{Name: name, Devno: rootdev.Devno{Major: major, Minor: 3}, DevPath: "/devices/virtual/block/" + name}
		if _, err := e.blocks.finder.Offer(dev, ext(1)); err != nil {
			t.Fatal(err)
		}
	}
	offer("vda", 253)
	e.keepMapped(data)
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("a machine without mapped devices has a database: %v", err)
	}
	offer("dm-0", 254)
	e.keepMapped(data)
	got, err := os.ReadFile(filepath.Join(data, "b254:3"))
	if diff := cmp.Diff("E:DM_UDEV_PRIMARY_SOURCE_FLAG=1\n", string(got)); diff != "" || err != nil {
		t.Errorf("entry, %v (-want +got):\n%s", err, diff)
	}
	if left, err := os.ReadDir(data); len(left) != 1 || err != nil {
		t.Errorf("%v, %v; want one entry", left, err)
	}
}
