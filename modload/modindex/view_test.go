package modindex

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A request string that is many things at once: an alias line wins, then a
// module, a symbol, a command, an alias of the index, a built-in module.
func TestViewLookup(t *testing.T) {
	c := config(t, `alias b far
alias symbol:do_b a-x
alias fs-* ext4
alias fs-ext4 far
alias fs-ext4 ext4
alias gone off
install hw /bin/true
install crc /bin/true
install over /bin/true
install acpi* /bin/true
install only-command /bin/true
remove only-remove /bin/true
`, "")
	v := open(t, writeIndex(t, sample)).With(c)
	for _, q := range []struct {
		what, query string
		want        Hits
	}{
		{"an alias line before a module", "b", Hits{[]string{"far"}, true}},
		{"an alias line before a symbol", "symbol:do-b", Hits{[]string{"a_x"}, true}},
		{"a symbol", "symbol:do_c", Hits{[]string{"c"}, true}},
		{"all alias lines, each module once", "fs-ext4", Hits{[]string{"ext4", "far"}, true}},
		{"a pattern", "fs-other", Hits{[]string{"ext4"}, true}},
		{"what is no module", "gone", Hits{[]string{"off"}, true}},
		{"no alias of an alias", "off", Hits{}},
		{"a module before a command", "crc", Hits{Names: []string{"crc"}}},
		{"a command before an alias", "hw", Hits{Names: []string{"hw"}}},
		{"a command before a built-in module", "over", Hits{Names: []string{"over"}}},
		{"a command alone", "only-command", Hits{Names: []string{"only_command"}}},
		{"a remove command", "only_remove", Hits{Names: []string{"only_remove"}}},
		{"a command for a pattern is for modules", "acpi:PNP0501:", Hits{[]string{"c", "b"}, true}},
		{"an alias of the index", "input:b0v0p0e1-e0,1,k1ramlsfw", Hits{[]string{"b"}, true}},
		{"nothing", "none", Hits{}},
	} {
		if diff := cmp.Diff(q.want, v.Lookup(q.query)); diff != "" {
			t.Errorf("%s: Lookup(%q) (-want +got):\n%s", q.what, q.query, diff)
		}
	}
}

func TestViewWithoutConfig(t *testing.T) {
	x := open(t, writeIndex(t, sample))
	v := x.With(nil)
	for _, c := range lookupCases {
		if diff := cmp.Diff(c.want, v.Lookup(c.query)); diff != "" {
			t.Errorf("%s: Lookup(%.60q) (-want +got):\n%s", c.what, c.query, diff)
		}
	}
	for _, name := range []string{"a-x", "b", "ext4", "none", ""} {
		want, known := x.Module(name)
		got, ok := v.Module(name)
		if diff := cmp.Diff(want, got); diff != "" || ok != known {
			t.Errorf("Module(%q) = %v, want %v (-Index +View):\n%s", name, ok, known, diff)
		}
		if diff := cmp.Diff(x.LoadOrder(name), v.LoadOrder(name)); diff != "" {
			t.Errorf("LoadOrder(%q) (-Index +View):\n%s", name, diff)
		}
	}
	if got := v.Options("b", "hw") + strings.Join(v.Weakdeps("b"), ""); got != "" {
		t.Errorf("Options or Weakdeps = %q", got)
	}
}

func TestViewModule(t *testing.T) {
	c := config(t, `install b  run b
install ext4 never
install only-command run it
install x* run x
install xx never
install late run late
softdep c pre: b
softdep only-soft pre: b
softdep late pre: b
`, "")
	v := open(t, writeIndex(t, sample)).With(c)
	for name, want := range map[string]Module{
		"b":            {Name: "b", Path: "kernel/drivers/b.ko.xz", Deps: []string{"c"}, Install: " run b"},
		"ext4":         {Name: "ext4", Builtin: true}, // is there, so nothing is run
		"c":            {Name: "c", Path: "kernel/lib/c.ko.xz", Pre: []string{"b"}},
		"only-command": {Name: "only_command", Install: "run it"},
		"xx":           {Name: "xx", Install: "never"}, // a line about the name itself
		"xy":           {Name: "xy", Install: "run x"},
		"late":         {Name: "late", Pre: []string{"b"}}, // soft dependencies overrule it
	} {
		got, ok := v.Module(name)
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("Module(%q) = %v (-want +got):\n%s", name, ok, diff)
		}
	}
	for _, name := range []string{"none", "only_soft", ""} {
		if m, ok := v.Module(name); ok {
			t.Errorf("Module(%q) = %+v, want none", name, m)
		}
	}
}

// modules.softdep is sorted in among the files by its name, and all lines count.
func TestSoftdepsOfConfigAndIndex(t *testing.T) {
	root := writeConfig(t, map[string]string{
		"lib/modprobe.d/modules.conf": "softdep a_x pre: early b\n", // "c" < "s"
		"etc/modprobe.d/z.conf":       "softdep a-* pre: late early post: end\n",
	})
	c, problems := ReadConfig(ConfigDirs(root), "")
	if problems != nil {
		t.Error(problems)
	}
	m, _ := open(t, writeIndex(t, sample)).With(c).Module("a-x")
	want := [][]string{{"early", "b", "fs-ext4", "late"}, {"hw", "end"}}
	if diff := cmp.Diff(want, [][]string{m.Pre, m.Post}); diff != "" {
		t.Errorf("Pre and Post (-want +got):\n%s", diff)
	}
	pre, post := c.Softdeps("a-x")
	if diff := cmp.Diff([][]string{{"early", "b", "late"}, {"end"}}, [][]string{pre, post}); diff != "" {
		t.Errorf("Config.Softdeps (-want +got):\n%s", diff)
	}
}

func TestWeakdepsOfConfigAndIndex(t *testing.T) {
	v := open(t, writeIndex(t, map[string]string{
		"modules.dep": "a.ko:\nb.ko:\n", "modules.weakdep": "weakdep a x y\n",
	})).With(config(t, "weakdep a y z\r\nweakdep [ab] w\n", ""))
	if diff := cmp.Diff([]string{"y", "z", "w", "x"}, v.Weakdeps("a")); diff != "" {
		t.Errorf("Weakdeps (-want +got):\n%s", diff)
	}
	for _, name := range []string{"a", "b"} { // nothing is loaded for it
		if m, _ := v.Module(name); m.Pre != nil || m.Post != nil || len(v.LoadOrder(name)) != 1 {
			t.Errorf("Module(%q) = %+v", name, m)
		}
	}
}

// view returns a View of modules without aliases, and its load order as words: a
// command stands for its module.
func view(t *testing.T, dep, lines string) (v *View, order func(name string) []string) {
	v = open(t, writeIndex(t, map[string]string{"modules.dep": dep, "modules.alias": "alias al-* a\n"})).With(config(t, lines, ""))
	return v, func(name string) (words []string) {
		for _, m := range v.LoadOrder(name) {
			if m.Install != "" {
				words = append(words, "["+m.Install+"]")
				continue
			}
			words = append(words, m.Name)
		}
		return words
	}
}

func TestViewLoadOrder(t *testing.T) {
	for _, c := range []struct {
		what, dep, lines string
		want             []string
	}{
		{"itself", "a.ko:\n", "softdep a pre: a", []string{"a"}},
		{"a circle of two", "a.ko:\nb.ko:\n", "softdep a pre: b\nsoftdep b pre: a\n", []string{"b", "a"}},
		{"a circle with a dependency", "a.ko: b.ko\nb.ko:\n", "softdep b post: a\n", []string{"b", "a"}},
		{"a dependant as post", "a.ko:\nb.ko: a.ko\nc.ko:\n", "softdep a post: b c\n", []string{"a", "c", "b"}},
		{"nothing has it", "a.ko:\n", "softdep a pre: none post: none\n", []string{"a"}},
		{"an alias line in a soft dependency", "a.ko:\nb.ko:\n", "alias some b\nsoftdep a pre: some\n", []string{"b", "a"}},
		{"a blacklisted dependency", "a.ko: b.ko\nb.ko:\nc.ko:\n", "softdep a pre: c\nblacklist b\nblacklist c\n", []string{"b", "c", "a"}},
		{"a command", "a.ko: b.ko\nb.ko:\n", "install a run\n", []string{"b", "[run]"}},
		{"a command that asks for its dependant", "a.ko: b.ko\nb.ko:\n", "install b modprobe -i b && { modprobe -q a; }\n",
			[]string{"[modprobe -i b && { modprobe -q a; }]", "a"}},
		{"a command that asks for itself", "a.ko:\n", "install a modprobe a\n", []string{"[modprobe a]"}},
		{"a command and soft dependencies", "a.ko:\nb.ko:\n", "install a run\nsoftdep a pre: b\n", []string{"b", "a"}},
		{"a command and soft dependencies of nothing", "a.ko:\n", "install a run\nsoftdep a pre: none\n", []string{"[run]"}},
		{"a command in a soft dependency", "a.ko:\n", "install x run\nsoftdep a pre: x\n", []string{"[run]", "a"}},
	} {
		_, order := view(t, c.dep, c.lines)
		if diff := cmp.Diff(c.want, order("a")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
}

// Soft dependencies that mean harm come to an end, and the module is loaded all the same.
func TestViewLoadOrderIsBounded(t *testing.T) {
	var lines strings.Builder
	for i := range 40 {
		lines.WriteString("softdep * pre:")
		for j := range maxQueries - 1 {
			fmt.Fprintf(&lines, " q%d-%d", i, j)
		}
		lines.WriteString("\nsoftdep * post: p\n")
	}
	v, order := view(t, "a.ko: b.ko\nb.ko:\nc.ko:\n", "alias q* c\nalias q* b\nalias p a\n"+lines.String())
	if m, _ := v.Module("a"); len(m.Pre) != maxQueries || len(m.Post) != 1 {
		t.Errorf("%d queries before a and %d after it", len(m.Pre), len(m.Post))
	}
	got := order("a")
	slices.Sort(got)
	if !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("LoadOrder = %q", got)
	}
}

// So do soft dependencies each of which stands for every module there is.
func TestLoadOrderOfEverythingIsBounded(t *testing.T) {
	var dep, lines strings.Builder
	for i := range 500 {
		fmt.Fprintf(&dep, "m%d.ko: m0.ko\n", i)
	}
	lines.WriteString("softdep * pre:")
	for i := range maxQueries - 1 {
		fmt.Fprintf(&lines, " al-%d", i)
	}
	v, _ := view(t, dep.String(), lines.String()+"\n")
	v.x.aliases = everything(t, v.x)
	o := newOrdering(v)
	o.enter("m7", "")
	if len(o.entered) > maxSteps || o.budget >= 0 {
		t.Errorf("%d modules entered, %d steps left: not a test of the bound of %d", len(o.entered), o.budget, maxSteps)
	}
	if !o.listed["m7"] || !o.listed["m0"] {
		t.Error("the module or its dependency is not listed")
	}
}

// everything returns aliases of which one covers all queries, for all modules of the index.
func everything(t *testing.T, x *Index) trie {
	var pairs []string
	for _, name := range x.byPriority() {
		pairs = append(pairs, "*", name)
	}
	all, _ := readTrie(t, trieOf(t, pairs...))
	return *all
}

// A blacklist is for requests by alias: in whichever spelling, and not by name.
func TestBlacklistByAlias(t *testing.T) {
	v, _ := view(t, "x-y.ko:\na.ko:\n", "blacklist x-y\nblacklist a\nalias own x-y\n")
	for query, byAlias := range map[string]bool{"al-1": true, "own": true, "a": false, "x-y": false, "x_y": false} {
		hits := v.Lookup(query)
		if len(hits.Names) != 1 || hits.ByAlias != byAlias || !v.c.Blacklisted(hits.Names[0]) {
			t.Errorf("Lookup(%q) = %+v, want one blacklisted module, by alias: %v", query, hits, byAlias)
		}
	}
	if v.c.Blacklisted("x") || v.c.Blacklisted("own") || v.c.Blacklisted("al-1") {
		t.Error("more is blacklisted than the lines say")
	}
}

// A module that is denied is no different in the View: whoever loads has to ask, once for each module.
func TestDeniedInView(t *testing.T) {
	v, order := view(t, "a.ko: b.ko\nb.ko:\n", "deny b\n")
	if got := order("a"); !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("LoadOrder = %q", got)
	}
	if _, denied := v.c.Denied("b"); !denied {
		t.Error("b is not denied")
	}
	if _, denied := v.c.Denied("a"); denied {
		t.Error("a is denied itself: the reason would be lost")
	}
}

func TestViewAllocatesNothingOnMiss(t *testing.T) {
	c := config(t, "alias fs-* ext4\nalias known b\ninstall cmd run\noptions b p=1\n", "")
	x := open(t, writeIndex(t, compiled(t, sample)))
	var s search // Lookup takes it from a pool, which drops some under the race detector
	for _, query := range []string{"none", "no-such-module", "dmi:bvnX:bd02/09/2006:br1:svnAcme:pnY:"} {
		miss := func() {
			s.set(query)
			if hits := x.ask(&s, c); hits.Names != nil {
				t.Fatalf("%q has hits: %v", query, hits)
			}
		}
		if n := testing.AllocsPerRun(100, miss); n != 0 {
			t.Errorf("%.40q: %v allocations, want 0", query, n)
		}
	}
}
