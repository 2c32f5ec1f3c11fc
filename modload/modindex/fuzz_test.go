package modindex

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Patterns that depmod could write, one a line, against the recursive fnmatch:
// the search in the trie matches on the way down and calls Fnmatch at the end only.
func FuzzSearch(f *testing.F) {
	f.Add("pci:v*d*sv*\npci:v00001AF4d*\nusb:v05ACp12[9A]0d*\nx?\\*\n*\n", "pci:v00001AF4d00001001sv0")
	f.Add("dmi*:bd01/09/2006*:svnAcme*:*\ndmi:*svn*pn*\n?mi*\n", "dmi:bvnX:bd01/09/2006:br1:svnAcme/Co:pnY:")
	f.Add("a*b*c*d\na*?b\n**\na[!b]*c\na\\\n[a\n", "aabbccd")
	f.Fuzz(func(t *testing.T, lines, query string) {
		if len(query) > 40 || len(lines) > 400 || strings.ContainsAny(query, "*?[") {
			return // the reference is slow, and wildcards of the query take part in the literal walk
		}
		var pairs []string
		for i, p := range strings.Split(lines, "\n") {
			named := strings.Contains(p, "[:") || strings.Contains(p, "[=") || strings.Contains(p, "[.")
			if strings.Count(p, "*") <= 4 && !named {
				pairs = append(pairs, p, fmt.Sprint("m", i))
			}
		}
		x, damage := readTrie(t, trieOf(t, pairs...))
		s := search{query: []byte(query)}
		found := map[string]bool{}
		for _, v := range s.in(x) {
			found[string(v.text)] = true
		}
		for _, e := range x.entries() {
			literal := strings.IndexAny(e.key+"*", "*?[")
			want := strings.HasPrefix(query, e.key[:literal]) && slowMatch(e.key[literal:], query[literal:])
			if literal == len(e.key) {
				want = query == e.key
			}
			if got := found[string(e.text)]; got != want {
				t.Errorf("pattern %q, query %q: found %v, want %v", e.key, query, got, want)
			}
		}
		if damage.Load() != nil {
			t.Errorf("what encode wrote: %v", *damage.Load())
		}
	})
}

// An index of which every file is hostile answers without a panic and in
// proportion to its size, and what Reduce takes from it is an index.
func FuzzIndex(f *testing.F) {
	good := compiled(f, sample)
	f.Add([]byte(good["modules.dep.bin"]), []byte(good["modules.alias.bin"]), []byte(good["modules.builtin.alias.bin"]), sample["modules.softdep"], "hw")
	f.Add(trieOf(f, "a", "a.ko: b.ko", "b", "b.ko: a.ko", "c", ":", "d", "d.ko: d.ko x.ko"), trieOf(f, "*", "a", "*", "b", "*", ""), []byte(nil), "softdep * pre: p q post: r\n", "a")
	f.Add(raw(headerSize|hasChildren, "**\x20\x00\x00\x0c"), raw(headerSize|hasValues, "\xff\xff\xff\xff\x00\x00\x00\x01m\x00"), raw(headerSize|hasPrefix, "a"), "", "aaaa")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, deps, aliases, builtins []byte, soft, query string) {
		x := &Index{dir: dir}
		for to, data := range map[*trie][]byte{&x.deps: deps, &x.aliases: aliases, &x.builtinAliases: builtins} {
			*to, _ = newTrie("test.bin", data, &x.damage) // the zero trie for a bad header, as in Open
		}
		x.searches.New = func() any { return new(search) }
		x.softdeps = sync.OnceValue(func() *rules[softdep] { return parseSoftdeps(soft) })
		x.aliased = sync.OnceValue(x.aliasedBuiltins)
		names := []string{query}
		for m := range x.All() {
			names = append(names, m.Name)
		}
		for _, name := range append(names[:min(len(names), 20)], x.Lookup(query).Names...) {
			seen := map[string]bool{}
			for _, m := range x.LoadOrder(name) {
				if seen[m.Name] {
					t.Errorf("LoadOrder(%q) has %q twice", name, m.Name)
				}
				seen[m.Name] = true
			}
		}
		files, err := Reduce(x, names[1:])
		if err != nil {
			return
		}
		for _, file := range files {
			damage := new(atomic.Pointer[error])
			if strings.HasSuffix(file.Name, ".bin") {
				if t2, err := newTrie(file.Name, file.Data, damage); err != nil || t2.entries() == nil && damage.Load() != nil {
					t.Errorf("%s of Reduce: %v, %v", file.Name, err, damage.Load())
				}
			}
		}
	})
}
