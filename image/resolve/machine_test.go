package resolve

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/modload/modindex"
)

// reasons returns "NAME: WHY" for each module.
func reasons(choices []Choice) []string {
	var lines []string
	for _, c := range choices {
		lines = append(lines, c.Name+": "+c.Why)
	}
	return lines
}

// Every module says why it is there, in the order of the paths.
func TestReasons(t *testing.T) {
	t.Parallel()
	x := openTree(t)
	if err := os.WriteFile(filepath.Join(x.Dir(), "modules.weakdep"), []byte("weakdep null_blk loop-a absent\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	x, err := modindex.Open(x.Dir())
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	choices, err := Choose(x, Request{Rules: []Rule{
		{Folder: "kernel/drivers/block/", From: "a list"}, {Name: "fs-xfs"}, {Name: "virtio", From: "--modules"},
	}, Deny: []string{"crc32c-int*"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"crc32c_arm: softdep of libcrc32c", "loop_a: weakdep of null_blk", "loop_b: softdep of loop_a", "simd: needed by crc32c_arm",
		"null_blk: a list: kernel/drivers/block/", "virtio_blk: a list: kernel/drivers/block/", "virtio: --modules: virtio",
		"virtio_ring: needed by virtio_blk", "xfs: asked for by fs-xfs", "libcrc32c: needed by xfs",
	}
	if diff := cmp.Diff(want, reasons(choices)); diff != "" {
		t.Errorf("choices (-want +got):\n%s", diff)
	}
}

func TestDenied(t *testing.T) {
	t.Parallel()
	x := openTree(t)
	for deny, want := range map[string]string{
		"null_blk": "null_blk is denied by the deny list", "virtio": "virtio_blk needs virtio, which the deny list denies",
		"a b": `denied module "a b"`, "x,y": "no module has such a name",
	} {
		rules := []Rule{{Name: "null_blk"}, {Name: "virtio_blk"}}
		if choices, err := Choose(x, Request{Rules: rules, Deny: []string{deny}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Choose without %q = %v, %v; want an error with %q", deny, choices, err, want)
		}
	}
	choices, err := Choose(x, Request{Rules: []Rule{{Folder: "kernel/drivers/block/"}}, Deny: []string{"virtio"}})
	if diff := cmp.Diff([]string{"null_blk: asked for by kernel/drivers/block/"}, reasons(choices)); diff != "" || err != nil {
		t.Errorf("a folder with what is denied: %v (-want +got):\n%s", err, diff)
	}
}

// Of what devices name, only the universal set counts; of what a machine needs, everything.
func TestMachines(t *testing.T) {
	t.Parallel()
	x := openTree(t)
	alias := "crypto-crc32c"
	rules, err := Machines(x, nil, []Machine{
		{Name: "a", Modaliases: []string{alias, "pci:unknown", alias + strings.Repeat("x", 100)}, Needs: []Need{{"null_blk", "the root"}}},
		{Name: "b", Modaliases: []string{alias}, Needs: []Need{{"dm_crypt", "the root"}, {"null_blk", "the root"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	choices, err := Choose(x, Request{Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"crc32c_intel: a, device crypto-crc32c: crc32c_intel", "crc32c_arm: a, device crypto-crc32c: crc32c_arm", "simd: needed by crc32c_arm",
		"null_blk: a, for the root: null_blk",
	}
	got := reasons(choices)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("choices (-want +got):\n%s", diff)
	}
	for _, r := range rules {
		if !r.Optional {
			t.Errorf("%s is not optional", r)
		}
	}
	if got := short(strings.Repeat("x", 100)); len(got) != 67 {
		t.Errorf("short gives %d bytes", len(got))
	}
}
