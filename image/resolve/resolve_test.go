package resolve

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"hapax/modload/modindex"
)

// tree is a small module tree. modules.dep lists users before providers, as depmod does; gone.ko has no file.
const tree = `
-- modules.dep --
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/block/null_blk.ko:
kernel/fs/xfs/xfs.ko: kernel/lib/libcrc32c.ko
kernel/fs/wants-gone.ko: kernel/fs/gone.ko
kernel/fs/soft-gone.ko:
kernel/fs/gone.ko:
kernel/lib/libcrc32c.ko:
kernel/crypto/crc32c-intel.ko:
kernel/crypto/crc32c_arm.ko: kernel/crypto/simd.ko
kernel/crypto/simd.ko:
kernel/crypto/loop-a.ko:
kernel/crypto/loop-b.ko:
-- modules.alias --
alias crypto-crc32c crc32c_intel
alias crypto-crc32c crc32c_arm
alias fs-xfs xfs
-- modules.softdep --
softdep libcrc32c pre: crypto-crc32c no-such-module
softdep soft_gone pre: gone post: wants_gone ext4
softdep loop_a pre: loop_b
softdep loop_b post: loop_a
-- modules.builtin --
kernel/fs/ext4/ext4.ko
-- modules.order --
kernel/fs/xfs/xfs.ko
kernel/drivers/block/virtio_blk.ko
-- modules.symbols --
`

// openTree writes the tree into a temporary folder and opens it.
func openTree(t *testing.T) *modindex.Index {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "6.1-test")
	write := func(name, data string) {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range txtar.Parse([]byte(tree)).Files {
		write(f.Name, string(f.Data))
		if f.Name != "modules.dep" {
			continue
		}
		for line := range strings.Lines(string(f.Data)) {
			if file, _, _ := strings.Cut(line, ":"); filepath.Base(file) != "gone.ko" {
				write(file, "module "+file)
			}
		}
	}
	x, err := modindex.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

// sortedNames returns the names of modules in alphabetical order; never nil.
func sortedNames(modules []modindex.Module) []string {
	names := make([]string, 0, len(modules))
	for _, m := range modules {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names
}

func TestSelect(t *testing.T) {
	t.Parallel()
	x := openTree(t)
	for _, tt := range []struct {
		name, rules, want string
	}{
		{"nothing", "", ""},
		{"built in", "ext4", ""},
		{"dependencies", "virtio-blk", "virtio virtio_blk virtio_ring"},
		{"alias", "fs-xfs", "crc32c_arm crc32c_intel libcrc32c simd xfs"},
		{"softdep of a dependency, and its dependency", "xfs", "crc32c_arm crc32c_intel libcrc32c simd xfs"},
		{"softdep without a file", "soft_gone", "soft_gone"},
		{"softdep loop", "loop_a", "loop_a loop_b"},
		{"folder", "kernel/drivers/block/", "null_blk virtio virtio_blk virtio_ring"},
		{"ban", "kernel/drivers/block/ -null_blk", "virtio virtio_blk virtio_ring"},
		{"ban of a dependency", "kernel/drivers/block/ -virtio", "null_blk"},
		{"ban of a softdep", "xfs,-crc32c_arm", "crc32c_intel libcrc32c xfs"},
		{"ban of what a softdep needs", "xfs,-simd", "crc32c_intel libcrc32c xfs"},
		{"ban by alias", "xfs,-crypto-crc32c", "libcrc32c xfs"},
		{"folder taken back", "kernel/drivers/ -kernel/drivers/block/", "virtio virtio_ring"},
		{"folder taken back, needed", "virtio_blk -kernel/drivers/virtio/", "virtio virtio_blk virtio_ring"},
		{"later rule wins", "-virtio,kernel/drivers/block/", "null_blk virtio virtio_blk virtio_ring"},
		{"named again", "kernel/drivers/block/ -null_blk null_blk", "null_blk virtio virtio_blk virtio_ring"},
	} {
		rules, err := ParseRules(tt.rules)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		modules, err := Select(x, rules)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(strings.Fields(tt.want), sortedNames(modules)); diff != "" {
			t.Errorf("%s: Select(%s) (-want +got):\n%s", tt.name, tt.rules, diff)
		}
	}
}

func TestSelectFails(t *testing.T) {
	t.Parallel()
	x := openTree(t)
	for _, tt := range []struct{ rules, want string }{
		{"virtio_blck", `no module or alias "virtio_blck" in ` + x.Dir() + "; did you mean virtio_blk?"},
		{"xfs.ko", "did you mean xfs?"},
		{"utterly-unknown", `no module or alias "utterly-unknown" in ` + x.Dir()},
		{"kernel/fs/btrfs/", "no modules below " + x.Dir() + "/kernel/fs/btrfs"},
		{"wants_gone", "module file " + x.Dir() + "/kernel/fs/gone.ko, needed by wants_gone: no such file"},
		{"gone", "module file " + x.Dir() + "/kernel/fs/gone.ko: no such file"},
		{"kernel/fs/", "kernel/fs/gone.ko"},
		{"virtio_blk,-virtio", "virtio_blk needs virtio, which -virtio takes away"},
	} {
		rules, err := ParseRules(tt.rules)
		if err != nil {
			t.Fatal(err)
		}
		if modules, err := Select(x, rules); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Select(%s) = %v, %v; want an error with %q", tt.rules, modules, err, tt.want)
		}
	}
	_, err := Select(x, []Rule{{Name: "wants_gone"}})
	missing, ok := errors.AsType[*MissingError](err)
	if !ok || missing.NeededBy != "wants_gone" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Select of a broken tree = %#v, want a *MissingError over fs.ErrNotExist", err)
	}
}

func TestSelectRefusesFilesThatAreNone(t *testing.T) {
	t.Parallel()
	x := openTree(t)
	file := filepath.Join(x.Dir(), "kernel/drivers/block/null_blk.ko")
	if err := errors.Join(os.Remove(file), os.Mkdir(file, 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, err := Select(x, []Rule{{Name: "null_blk"}}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Select of a folder = %v", err)
	}
}

func TestOptionalRules(t *testing.T) {
	t.Parallel()
	x := openTree(t)
	rules := []Rule{{Name: "absent", Optional: true}, {Folder: "kernel/absent/", Optional: true}, {Name: "absent", Remove: true, Optional: true}}
	if modules, err := Select(x, rules); err != nil || len(modules) != 0 {
		t.Errorf("Select of optional rules that match nothing = %v, %v", modules, err)
	}
}

func TestUniversalAndAll(t *testing.T) {
	t.Parallel()
	x := openTree(t)
	universal, err := Universal()
	if err != nil {
		t.Fatal(err)
	}
	modules, err := Select(x, universal)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields("crc32c_arm crc32c_intel libcrc32c simd virtio virtio_blk virtio_ring xfs")
	if diff := cmp.Diff(want, sortedNames(modules)); diff != "" {
		t.Errorf("universal (-want +got):\n%s", diff)
	}
	modules, err = Select(x, append(All(), Rule{Name: "gone", Remove: true}))
	if err != nil {
		t.Fatal(err)
	}
	if len(modules) != 12 { // but for gone and what needs it
		t.Errorf("all gives %d modules, want 12: %v", len(modules), sortedNames(modules))
	}
	for i := 1; i < len(modules); i++ {
		if modules[i-1].Path >= modules[i].Path {
			t.Errorf("%s comes before %s", modules[i-1].Path, modules[i].Path)
		}
	}
}

// A rule written twice in the list is a slip, and a removal before what it removes from would do nothing.
func TestUniversalListIsTidy(t *testing.T) {
	t.Parallel()
	rules, err := Universal()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range rules {
		if seen[r.Name+r.Folder] {
			t.Errorf("%s is there twice", r)
		}
		seen[r.Name+r.Folder] = true
		if r.Name != modindex.Normalize(r.Name) {
			t.Errorf("%s is not spelled as the kernel does", r)
		}
	}
}

func TestParseRules(t *testing.T) {
	t.Parallel()
	rules, err := ParseRules(" nvme,-kernel/fs/\n-drbd,, kernel/x/ ")
	if err != nil {
		t.Fatal(err)
	}
	want := []Rule{{Name: "nvme"}, {Folder: "kernel/fs/", Remove: true}, {Name: "drbd", Remove: true}, {Folder: "kernel/x/"}}
	if diff := cmp.Diff(want, rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	for i, want := range []string{"nvme", "-kernel/fs/", "-drbd", "kernel/x/"} {
		if got := rules[i].String(); got != want {
			t.Errorf("rule %d prints %q, want %q", i, got, want)
		}
	}
	for _, list := range []string{"-", "a,-", "/lib/modules/", "/x.ko"} {
		if rules, err := ParseRules(list); err == nil {
			t.Errorf("ParseRules(%q) = %v, want an error", list, rules)
		}
	}
}
