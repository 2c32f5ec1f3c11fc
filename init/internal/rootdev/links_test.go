package rootdev

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// newLinks returns Links below a new directory, and that directory.
func newLinks(t *testing.T) (*Links, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "dev")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := NewLinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, dir
}

// tree returns the links below dir with their targets, and a folder as "". What is neither is an error.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || path == ".":
			return err
		case e.IsDir():
			got[path] = ""
			return nil
		}
		got[path], err = os.Readlink(filepath.Join(dir, path))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestLinks(t *testing.T) {
	t.Parallel()
	l, dir := newLinks(t)
	expect := func(what string, want map[string]string) {
		t.Helper()
		if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
			t.Fatalf("%s: links differ (-want +got):\n%s", what, diff)
		}
	}
	set := func(device string, links ...string) {
		t.Helper()
		if err := l.Set(device, links); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(device string) { t.Helper(); set(device) }
	set("vda", "disk/by-uuid/1", "disk/by-id/virtio-a/b")
	set("cciss/c0d0", "disk/by-label/x")
	expect("add", map[string]string{
		"disk": "", "disk/by-uuid": "", "disk/by-uuid/1": "../../vda", "disk/by-id": "", "disk/by-id/virtio-a": "",
		"disk/by-id/virtio-a/b": "../../../vda", "disk/by-label": "", "disk/by-label/x": "../../cciss/c0d0",
	})
	set("vda", "disk/by-uuid/2")
	set("cciss/c0d0", "disk/by-label/x")
	expect("change", map[string]string{"disk": "", "disk/by-uuid": "", "disk/by-uuid/2": "../../vda", "disk/by-label": "", "disk/by-label/x": "../../cciss/c0d0"})
	remove("cciss/c0d0")
	remove("cciss/c0d0")
	set("vdb", "disk/by-uuid/2")
	set("vdc", "disk/by-uuid/2", "disk/by-uuid/3")
	expect("the first one keeps it", map[string]string{"disk": "", "disk/by-uuid": "", "disk/by-uuid/2": "../../vda", "disk/by-uuid/3": "../../vdc"})
	if diff := cmp.Diff([]string{"vda", "vdb", "vdc"}, l.Owners("disk/by-uuid/2")); diff != "" {
		t.Errorf("Owners differ (-want +got):\n%s", diff)
	}
	set("vda", "disk/by-uuid/2") // another event does not change the order
	remove("vdb")
	expect("a waiting one goes", map[string]string{"disk": "", "disk/by-uuid": "", "disk/by-uuid/2": "../../vda", "disk/by-uuid/3": "../../vdc"})
	set("vda")
	expect("the next one takes over", map[string]string{"disk": "", "disk/by-uuid": "", "disk/by-uuid/2": "../../vdc", "disk/by-uuid/3": "../../vdc"})
	remove("vda")
	remove("vdc")
	expect("nothing is left", map[string]string{})
}

// TestLinksStay: whatever is in the directory, nothing outside of it changes.
func TestLinksStay(t *testing.T) {
	t.Parallel()
	l, dir := newLinks(t)
	outside := filepath.Join(filepath.Dir(dir), "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, target := range map[string]string{"disk": outside, "rel": "../outside", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("stays"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"disk/by-uuid/1", "disk/x", "rel/x", "loop/x", "../outside/x", "a/../../outside/x", outside + "/x", "file/x", "file", "", ".", "..", "a\x00"} {
		if err := l.Set("vda", []string{link}); err == nil {
			t.Errorf("link %q was made", link)
		}
	}
	if err := l.Set("vda", []string{"disk/x", "good/x"}); err == nil || len(tree(t, filepath.Join(dir, "good"))) != 1 {
		t.Errorf("one bad link of two: %v", err)
	}
	for _, device := range []string{"../outside", "", "a/../b", "/vda"} {
		if err := l.Set(device, []string{"good/y"}); err == nil {
			t.Errorf("device %q was taken", device)
		}
	}
	if err := l.Set("vda", nil); err == nil {
		t.Error("disk/x was taken away through a link that leads out")
	}
	if left := tree(t, outside); len(left) != 0 {
		t.Errorf("outside: %v", left)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != "stays" {
		t.Errorf("file: %q, %v", b, err)
	}
}

// TestLinksTakeOver: what another process left is replaced, if it is a link.
func TestLinksTakeOver(t *testing.T) {
	t.Parallel()
	l, dir := newLinks(t)
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "disk/by-uuid"), 0o755), os.Symlink("../../gone", filepath.Join(dir, "disk/by-uuid/1")),
		os.Symlink("x", filepath.Join(dir, "disk/by-uuid/.hapax-link"))); err != nil {
		t.Fatal(err)
	}
	if err := l.Set("vda", []string{"disk/by-uuid/1"}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"disk": "", "disk/by-uuid": "", "disk/by-uuid/1": "../../vda"}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Errorf("links differ (-want +got):\n%s", diff)
	}
	if _, err := NewLinks(filepath.Join(dir, "nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// TestLinksAnyOrder compares with a model: after any events a link leads to the device that claims it longest.
func TestLinksAnyOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		l, dir := newLinks(t)
		rng := rand.New(rand.NewPCG(seed, 1))
		claims := map[string][]string{} // of links, in order
		for range 200 {
			device := fmt.Sprintf("vd%c", 'a'+rng.IntN(5))
			var links []string
			if rng.IntN(3) > 0 {
				for i := range 4 {
					if rng.IntN(2) == 0 {
						links = append(links, fmt.Sprintf("disk/by-%c/%d", 'a'+i%2, i))
					}
				}
			}
			if err := l.Set(device, links); err != nil {
				t.Fatal(err)
			}
			for i := range 4 {
				link := fmt.Sprintf("disk/by-%c/%d", 'a'+i%2, i)
				at := slices.Index(claims[link], device)
				if now := slices.Contains(links, link); now && at < 0 {
					claims[link] = append(claims[link], device)
				} else if !now && at >= 0 {
					claims[link] = slices.Delete(claims[link], at, at+1)
				}
			}
			want := map[string]string{}
			for link, devices := range claims {
				if len(devices) > 0 {
					want[link], want[filepath.Dir(link)], want["disk"] = "../../"+devices[0], "", ""
				}
			}
			if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
				t.Fatalf("seed %d: links differ (-want +got):\n%s", seed, diff)
			}
		}
	}
}

func TestLinksNames(t *testing.T) {
	t.Parallel()
	l, dir := newLinks(t)
	names := Names(sysfs(nvme), subject(nvmeAt, Part{}, Info{Type: "ext4", Usage: Filesystem, Label: strings.Repeat("/", 63)}))
	if err := l.Set("nvme0n1", names); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if target, err := os.Readlink(filepath.Join(dir, name)); err != nil || target != "../../nvme0n1" {
			t.Errorf("%s leads to %s, %v", name, target, err)
		}
	}
}
