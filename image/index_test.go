package image

import (
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/modload/modindex"
	"hapax/tests/need"
)

// imageIndex composes an image, without writing it, and returns a folder with depmod's files of the image, and the
// names of its modules.
func imageIndex(t *testing.T, spec Spec) (dir string, names []string) {
	t.Helper()
	index, err := modindex.Open(spec.ModulesDir)
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	b := newBuilder(spec, index)
	if err := b.compose(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for _, e := range b.tree.Entries() {
		if !e.Mode.IsRegular() || !strings.HasPrefix(e.Name, "lib/modules/") {
			continue
		}
		if path.Dir(e.Name) != "lib/modules/"+filepath.Base(spec.ModulesDir) {
			names = append(names, modindex.NameOf(e.Name))
			continue
		}
		var content []byte
		if e.Open != nil {
			r, err := e.Open()
			if err != nil {
				t.Fatal(err)
			}
			if content, err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
			r.Close()
		}
		writeFile(t, filepath.Join(dir, path.Base(e.Name)), string(content), 0o644)
	}
	slices.Sort(names)
	return dir, names
}

// openBoth opens the two indexes of an image.
func openBoth(t *testing.T, dir string) (*modindex.Index, *modindex.Missing) {
	t.Helper()
	index, err := modindex.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { index.Close() })
	missing, err := modindex.OpenMissing(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { missing.Close() })
	return index, missing
}

// An image makes the static device nodes of its own modules and of no others, and names the modules that it left out.
func TestImageIndex(t *testing.T) {
	t.Parallel()
	spec, err := testSpec(t).withDefaults() // leaves out null_blk
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := imageIndex(t, spec)
	index, missing := openBoth(t, dir)
	nodes, err := index.Devnodes()
	want := []modindex.Devnode{{Module: "virtio_blk", Name: "virtio/control", Char: true, Major: 10, Minor: 2}}
	if diff := cmp.Diff(want, nodes); diff != "" || err != nil {
		t.Errorf("device nodes, %v (-want +got):\n%s", err, diff)
	}
	for alias, want := range map[string]string{
		"pci:v00001AF4d0000F000sv0sd0bc0sc0i0": "null_blk",
		"virtio:d00000002v1":                   "",
	} {
		if got := strings.Join(missing.Lookup(alias), " "); got != want {
			t.Errorf("missing for %s: %q, want %q", alias, got, want)
		}
	}
}

// The same with the universal images of real kernels, on the trees that HAPAX_TEST_MODULES names.
func TestRealTreeIndex(t *testing.T) {
	trees := need.Trees(t)
	init := testSpec(t).Init
	for _, tree := range trees {
		spec, err := Spec{Output: "unused", ModulesDir: tree, Init: init}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		dir, names := imageIndex(t, spec)
		index, missing := openBoth(t, dir)
		whole, err := modindex.Open(tree)
		if err != nil {
			t.Fatal(err)
		}
		defer whole.Close()
		nodes, err := whole.Devnodes()
		if err != nil {
			t.Fatal(err)
		}
		want := slices.DeleteFunc(slices.Clone(nodes), func(n modindex.Devnode) bool { return !slices.Contains(names, n.Module) })
		got, err := index.Devnodes()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: device nodes, %v (-want +got):\n%s", tree, err, diff)
		}
		if len(got) == 0 || len(got) == len(nodes) {
			t.Errorf("%s: %d of %d device nodes: not a test", tree, len(got), len(nodes))
		}
		// Nobody boots from a sound card, and only the cloud kernels have no driver for it.
		const sound = "pci:v00008086d00002668sv00001AF4sd00001100bc04sc03i00"
		drivers, all := missing.Lookup(sound), whole.Lookup(sound).Names
		if !slices.Equal(drivers, all) || len(all) == 0 && !strings.Contains(tree, "cloud") {
			t.Errorf("%s: %s would take %q, want %q", tree, sound, drivers, all)
		}
		if got := missing.Lookup("virtio:d00000002v00001AF4"); got != nil || missing.Err() != nil {
			t.Errorf("%s: virtio_blk is in the image, and missing for its device are %q, %v", tree, got, missing.Err())
		}
	}
}
