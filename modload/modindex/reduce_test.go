package modindex

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// reduced writes what Reduce returns into a folder and returns that.
func reduced(t testing.TB, src *Index, names ...string) string {
	t.Helper()
	files, err := Reduce(src, names)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, f := range files {
		m[f.Name] = string(f.Data)
	}
	return writeIndex(t, m)
}

func TestReduce(t *testing.T) {
	files := maps.Clone(sample)
	files["modules.softdep"] += "softdep b pre: far\nsoftdep ? pre: hw\nsoftdep far post: c\n"
	files["modules.weakdep"] = "weakdep b x\nweakdep far x\n"
	files["modules.devname"] = "# nodes\nb bus c1:2\nfar far c1:3\n"
	for form, files := range map[string]map[string]string{"text": files, "bin": compiled(t, files)} {
		src := open(t, writeIndex(t, files))
		dir := reduced(t, src, "b", "c", "plain-one")
		x := open(t, dir)
		var all []string
		for m := range x.All() {
			all = append(all, m.Name)
		}
		if diff := cmp.Diff([]string{"c", "b"}, all); diff != "" {
			t.Errorf("%s: modules (-want +got):\n%s", form, diff)
		}
		for query, want := range map[string]Hits{
			"pci:v00001AF4d00001001sv0sd0bc01sc00i00": {[]string{"c", "b"}, true}, // a_x is gone
			"b":           {Names: []string{"b"}},
			"symbol:do_c": {[]string{"c"}, true},
			"a_x":         {},
			"hw":          {[]string{"ext4"}, true}, // now only the built-in module has it
			"fs-debugfs":  {[]string{"debugfs"}, true},
			"plain_one":   {Names: []string{"plain_one"}},
		} {
			if diff := cmp.Diff(want, x.Lookup(query)); diff != "" {
				t.Errorf("%s: Lookup(%q) (-want +got):\n%s", form, query, diff)
			}
		}
		texts := readIndex(t, dir, "modules.softdep", "modules.weakdep", "modules.devname", "modules.order")
		want := map[string]string{
			"modules.softdep": "softdep b pre: far\nsoftdep ? pre: hw\n",
			"modules.weakdep": "weakdep b x\n",
			"modules.devname": "b bus c1:2\n",
		}
		if form == "text" {
			want["modules.order"] = "kernel/lib/c.ko\n"
		}
		if diff := cmp.Diff(want, texts); diff != "" {
			t.Errorf("%s: text files (-want +got):\n%s", form, diff)
		}
	}
}

func TestReduceIsDeterministic(t *testing.T) {
	src := open(t, writeIndex(t, sample))
	a, errA := Reduce(src, []string{"a-x", "b", "c"})
	b, errB := Reduce(src, []string{"c", "b", "a_x", "b"})
	if diff := cmp.Diff(a, b); diff != "" || errA != nil || errB != nil {
		t.Errorf("another order of names, errors %v, %v:\n%s", errA, errB, diff)
	}
	if !slices.IsSortedFunc(a, func(a, b File) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("the files are not sorted by name")
	}
}

func TestReduceErrors(t *testing.T) {
	src := open(t, writeIndex(t, sample))
	for _, c := range []struct {
		names []string
		want  string
	}{
		{[]string{"b"}, "b needs c"},
		{[]string{"c", "none"}, `no module "none"`},
		{[]string{"gone"}, `no module "gone"`},
	} {
		if files, err := Reduce(src, c.names); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Reduce(%q) = %d files, %v, want an error with %q", c.names, len(files), err, c.want)
		}
	}
	broken := compiled(t, sample)
	broken["modules.alias.bin"] = string(raw(headerSize|hasPrefix, "abc"))
	x, err := Open(writeIndex(t, broken))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if _, err := Reduce(x, []string{"c"}); err == nil || !strings.Contains(err.Error(), "modules.alias.bin") {
		t.Errorf("Reduce of a damaged index = %v", err)
	}
}

// What encode makes of the text files of a real tree is, byte for byte, what depmod made.
func TestTextEqualsDepmod(t *testing.T) {
	eachTree(t, func(t *testing.T, dir string) {
		bin, text := open(t, dir), open(t, writeIndex(t, readIndex(t, dir, twins...)))
		theirs := []*trie{&bin.deps, &bin.aliases, &bin.symbols, &bin.builtins, &bin.builtinAliases}
		for i, ours := range []*trie{&text.deps, &text.aliases, &text.symbols, &text.builtins, &text.builtinAliases} {
			want, got := theirs[i].entries(), ours.entries()
			if len(want) == 0 {
				t.Errorf("%s has nothing", binFiles[i])
			}
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b entry) bool { return a.String() == b.String() })); diff != "" {
				t.Errorf("%s (-depmod +text):\n%s", binFiles[i], diff)
			}
			// Later depmods put the nodes into another order; what they hold is the same.
			if !childrenFirst(theirs[i]) {
				t.Logf("%s: not written by kmod 30, contents compared only", binFiles[i])
			} else if !bytes.Equal(theirs[i].data, ours.data) {
				t.Errorf("%s differs from what depmod wrote", binFiles[i])
			}
		}
	})
}

// childrenFirst reports whether the root is the last node, as in kmod 30 and before.
func childrenFirst(t *trie) bool { return int(t.root&posMask) > len(t.data)/2 }

// Reduce of everything is what depmod made, too.
func TestReduceToAll(t *testing.T) {
	eachTree(t, func(t *testing.T, dir string) {
		src := open(t, dir)
		out := readIndex(t, reduced(t, src, src.byPriority()...), binFiles...)
		for name, want := range readIndex(t, dir, binFiles...) {
			x, _ := readTrie(t, []byte(want))
			if childrenFirst(x) && out[name] != want {
				t.Errorf("%s differs from what depmod wrote", name)
			}
		}
	})
}
