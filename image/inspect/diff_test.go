package inspect

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/image/archive"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	a := newc(
		rec{name: "init", mode: program, content: "1"}, rec{name: "only", mode: regular, content: "xy"},
		rec{name: "sh", mode: symlink, content: "a"}, rec{name: "null", mode: node, rdev: [2]uint32{1, 3}},
		rec{name: "dir", mode: folder}, rec{name: "same", mode: regular, content: "same"},
		rec{name: "lib", mode: folder}, rec{name: "lib/modules", mode: folder}, rec{name: "lib/modules/6.1", mode: folder},
		rec{name: "lib/modules/6.1/a.ko", mode: regular, content: "a"}, rec{name: "lib/modules/6.1/gone-away.ko", mode: regular},
	)
	b := newc(
		rec{name: "init", mode: program, content: "2"}, rec{name: "same", mode: regular, content: "same"},
		rec{name: "sh", mode: symlink, content: "b"}, rec{name: "null", mode: node, rdev: [2]uint32{1, 5}},
		rec{name: "dir", mode: 0o040700}, rec{name: "new", mode: folder}, rec{name: "new/file", mode: regular, content: "z"},
		rec{name: "lib", mode: folder}, rec{name: "lib/modules", mode: folder}, rec{name: "lib/modules/6.2", mode: folder},
		rec{name: "lib/modules/6.2/a.ko", mode: regular, content: "a"}, rec{name: "lib/modules/6.2/b.ko.xz", mode: regular},
	)
	sums := Options{Sum: true}
	d := Diff(read(t, a, sums), read(t, squeeze(t, archive.Zstd, b), sums))
	want := &Difference{
		A: Summary{Image: "image", Kind: Initramfs, Size: int64(len(a)), Content: int64(len(a)), Formats: []string{"none"}, Files: 11, Modules: 2, Releases: []string{"6.1"}},
		B: Summary{Image: "image", Kind: Initramfs, Size: d.B.Size, Content: int64(len(b)), Formats: []string{"zstd"}, Files: 12, Modules: 2, Releases: []string{"6.2"}},
		Added: []Change{
			{Path: "lib/modules/6.2/b.ko.xz"}, {Path: "new"}, {Path: "new/file", Size: [2]int64{0, 1}},
		},
		Removed: []Change{{Path: "lib/modules/6.1/gone-away.ko"}, {Path: "only", Size: [2]int64{2, 0}}},
		Changed: []Change{
			{Path: "dir", What: []string{"mode drwxr-xr-x -> drwx------"}},
			{Path: "init", Size: [2]int64{1, 1}, What: []string{"content"}},
			{Path: "null", What: []string{"device 1:3 -> 1:5"}},
			{Path: "sh", What: []string{"link a -> b"}},
		},
	}
	want.Modules.Added, want.Modules.Removed = []string{"b"}, []string{"gone_away"}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if d.Same() {
		t.Error("they are the same")
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	tree := read(t, newc(files{
		"init": "12345678", "bin/sh": "1234", "bin/ls": "12", "usr/lib/systemd/units/deep/x": "123",
		"lib/modules/6.1/kernel/drivers/scsi/deep/a.ko": "123456", "lib/modules/6.1/modules.dep": "1",
	}.records()...), Options{})
	want := []Share{
		{"init", 1, 8}, {"bin/", 2, 6}, {"lib/modules/6.1/kernel/drivers/scsi/", 1, 6}, {"usr/lib/systemd/", 1, 3}, {"lib/modules/6.1/", 1, 1},
	}
	if diff := cmp.Diff(want, tree.Sizes()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
