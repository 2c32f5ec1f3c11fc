package modindex

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSoftdeps(t *testing.T) {
	const data = `# comment
softdep cifs gcm
softdep btrfs pre: sha256
softdep btrfs pre: xxhash64 sha256 post: late
	softdep a-b	post:  p pre: q-r post: s
softdep snd_* pre: core
softdep cont \
 pre: \
 x
 # not at the start of the line, so not a comment and no keyword
softdep none
softdep bad]name pre: x
options softdep pre: x
softdep last pre: y\`
	all := parseSoftdeps(data)
	for _, c := range []struct {
		module    string
		pre, post []string
	}{
		{"cifs", nil, nil}, // words in front of pre: and post:
		{"btrfs", []string{"sha256", "xxhash64"}, []string{"late"}},
		{"a_b", []string{"q-r"}, []string{"p", "s"}},
		{"snd_hda", []string{"core"}, nil},
		{"snd", nil, nil},
		{"cont", []string{"x"}, nil},
		{"none", nil, nil},
		{"bad]name", nil, nil},
		{"last", []string{"y"}, nil},
	} {
		pre, post := softdeps(all, c.module)
		if diff := cmp.Diff([][]string{c.pre, c.post}, [][]string{pre, post}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.module, diff)
		}
	}
}

func TestWeakdeps(t *testing.T) {
	x := open(t, writeIndex(t, map[string]string{
		"modules.dep":     "a.ko:\n",
		"modules.weakdep": "weakdep a-b x y-z\nweakdep a_b y-z w\nweakdep c\nsoftdep a_b pre: no\n",
	}))
	if diff := cmp.Diff([]string{"x", "y-z", "w"}, x.Weakdeps("a_b")); diff != "" {
		t.Errorf("Weakdeps (-want +got):\n%s", diff)
	}
	if got := open(t, writeIndex(t, sample)).Weakdeps("a_b"); got != nil {
		t.Errorf("Weakdeps without modules.weakdep = %q", got)
	}
}

func TestLoadOrder(t *testing.T) {
	for _, c := range []struct {
		what, dep, softdep, builtin string
		want                        []string
	}{
		{"dependencies from right to left", "a.ko: b.ko c.ko\nb.ko: c.ko\nc.ko:\n", "", "", []string{"c", "b", "a"}},
		{"soft ones around each", "a.ko: b.ko\nb.ko:\nc.ko:\nd.ko:\ne.ko:\n", "softdep b pre: c post: d\nsoftdep a post: e\n", "", []string{"c", "b", "d", "a", "e"}},
		{"a soft one with its own dependencies", "a.ko:\nb.ko: c.ko\nc.ko:\n", "softdep a pre: b\n", "", []string{"c", "b", "a"}},
		{"two lines", "a.ko:\nb.ko:\nc.ko:\n", "softdep a pre: b\nsoftdep a pre: c\n", "", []string{"b", "c", "a"}},
		{"itself", "a.ko:\n", "softdep a pre: a post: a\n", "", []string{"a"}},
		{"a circle", "a.ko:\nb.ko:\n", "softdep a pre: b\nsoftdep b pre: a\n", "", []string{"b", "a"}},
		{"a circle with a dependency", "a.ko:\nb.ko: a.ko\n", "softdep a pre: b\n", "", []string{"a", "b"}},
		{"nothing has it", "a.ko:\n", "softdep a pre: none\n", "", []string{"a"}},
		{"built in", "a.ko:\n", "softdep a pre: b\n", "b.ko\n", []string{"b", "a"}},
	} {
		x := open(t, writeIndex(t, map[string]string{"modules.dep": c.dep, "modules.softdep": c.softdep, "modules.builtin": c.builtin}))
		var got []string
		for _, m := range x.LoadOrder("a") {
			got = append(got, m.Name)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
	if got := open(t, writeIndex(t, sample)).LoadOrder("none"); got != nil {
		t.Errorf("LoadOrder of an unknown module = %v", got)
	}
}

func TestDevnodes(t *testing.T) {
	read := func(data string) ([]Devnode, error) {
		return open(t, writeIndex(t, map[string]string{"modules.dep": "a.ko:\n", "modules.devname": data})).Devnodes()
	}
	got, err := read("# Device nodes to trigger on-demand module loading.\nsnd-timer snd/timer c116:33\nloop loop0 b7:0\n")
	want := []Devnode{{"snd_timer", "snd/timer", true, 116, 33}, {"loop", "loop0", false, 7, 0}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("Devnodes, error %v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"a b", "a ../b c1:2", "a /b c1:2", "a . c1:2", "a b/../c c1:2", "a b x1:2", "a b c1", "a b c1:-2", "a b c4294967296:1", "a b c1:2 d"} {
		nodes, err := read(bad + "\nfuse fuse c10:229\n")
		if err == nil || !strings.Contains(err.Error(), "modules.devname") || len(nodes) != 1 || nodes[0].Name != "fuse" {
			t.Errorf("Devnodes of %q = %v, %v, want an error and the good line", bad, nodes, err)
		}
	}
	if nodes, err := open(t, writeIndex(t, sample)).Devnodes(); nodes != nil || err != nil {
		t.Errorf("Devnodes without modules.devname = %v, %v", nodes, err)
	}
}

func FuzzSoftdeps(f *testing.F) {
	f.Add("softdep a pre: b post: c\n", "a")
	f.Add("softdep \\\na*\\\n pre: b\\", "ab")
	f.Fuzz(func(t *testing.T, data, module string) {
		pre, post := softdeps(parseSoftdeps(data), module)
		for _, q := range append(pre, post...) {
			if q == "" || q == "pre:" || q == "post:" {
				t.Errorf("%q: query %q", data, q)
			}
		}
		for line := range lines(data) {
			// Its answer is for the loop that makes device nodes: nothing above /dev.
			if n, err := parseDevnode(line); err == nil && filepath.Dir(filepath.Join("/dev", n.Name)) < "/dev" {
				t.Errorf("%q: node %q", line, n.Name)
			}
		}
		read, again := configLineList(data), ""
		for line := range writtenLines(data) {
			again += line + "\n"
		}
		if diff := cmp.Diff(read, configLineList(again)); diff != "" {
			t.Errorf("%q (-read +written and read again):\n%s", data, diff)
		}
	})
}

// configLineList returns what configLines yields.
func configLineList(data string) (list []string) {
	for _, line := range configLines(data) {
		list = append(list, line)
	}
	return list
}

// What Reduce writes of a modprobe.d(5) file reads as the file did.
func TestWrittenLines(t *testing.T) {
	const data = "# comment\nsoftdep a\\\\?b \\\n pre: c\\d\nsoftdep e post: f\\\n"
	var written string
	for line := range writtenLines(data) {
		written += line + "\n"
	}
	if diff := cmp.Diff(configLineList(data), configLineList(written)); diff != "" {
		t.Errorf("%q (-read +read again):\n%s", written, diff)
	}
	if line := strings.Split(written, "\n")[0]; !concerns(line, "softdep", map[string]bool{"a?b": true}) || concerns(line, "softdep", map[string]bool{"axb": true}) {
		t.Errorf("concerns(%q) takes the quoted '?' for a wildcard", line)
	}
}
