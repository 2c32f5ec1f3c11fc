package modindex

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// trieOf encodes key, module pairs; the priority counts them.
func trieOf(t testing.TB, pairs ...string) []byte {
	t.Helper()
	var entries []entry
	for i := 0; i < len(pairs); i += 2 {
		entries = append(entries, entry{pairs[i], value{uint32(i), []byte(pairs[i+1])}})
	}
	data, err := encode(entries)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readTrie(t testing.TB, data []byte) (*trie, *atomic.Pointer[error]) {
	t.Helper()
	damage := new(atomic.Pointer[error])
	x, err := newTrie("test.bin", data, damage)
	if err != nil {
		t.Fatal(err)
	}
	return &x, damage
}

// text shows entries, one a line.
func (e entry) String() string { return fmt.Sprintf("%s -> %d %s", e.key, e.priority, e.text) }

func TestEncodeRoundTrip(t *testing.T) {
	entries := []entry{
		{"abc", value{3, []byte("late")}},
		{"abc", value{1, []byte("early")}},
		{"abc", value{3, []byte("later")}},
		{"ab", value{2, []byte("x")}},
		{"", value{9, []byte("root")}},
		{"abd*", value{2, nil}},
		{"z\x7f", value{2, []byte("edge")}},
		{"\xc3\xa9", value{2, []byte("dropped: not ASCII")}},
		{"a\x00b", value{2, []byte("dropped: a NUL")}},
		{strings.Repeat("k", maxQuery+1), value{2, []byte("dropped: too long")}},
	}
	data, err := encode(entries)
	if err != nil {
		t.Fatal(err)
	}
	x, damage := readTrie(t, data)
	var got []string
	for _, e := range x.entries() {
		got = append(got, e.String())
	}
	want := []string{" -> 9 root", "ab -> 2 x", "abc -> 1 early", "abc -> 3 later", "abc -> 3 late", "abd* -> 2 ", "z\x7f -> 2 edge"}
	if diff := cmp.Diff(want, got); diff != "" || damage.Load() != nil {
		t.Errorf("entries (-want +got), damage %v:\n%s", damage.Load(), diff)
	}
	for key, want := range map[string]string{"": "root", "ab": "x", "abc": "early", "abd*": ""} {
		if v, ok := x.find([]byte(key)); !ok || string(v.text) != want {
			t.Errorf("find(%q) = %q, %v, want %q", key, v.text, ok, want)
		}
	}
	for _, key := range []string{"a", "abcd", "abd", "abdx", "z", "\xff"} {
		if x.has([]byte(key)) {
			t.Errorf("find(%q) finds something", key)
		}
	}
}

func TestEncodeEmpty(t *testing.T) {
	data := trieOf(t)
	if want := "\xb0\x07\xf4\x57\x00\x02\x00\x01\x00\x00\x00\x0c"; string(data) != want {
		t.Errorf("no entries give %q, want %q", data, want)
	}
	for _, root := range []uint32{0, hasChildren, headerSize} {
		binary.BigEndian.PutUint32(data[8:], root)
		x, damage := readTrie(t, data)
		s := search{query: []byte("a")}
		if len(s.in(x)) > 0 || x.has([]byte("")) || x.entries() != nil {
			t.Errorf("root %#x: an empty index has something", root)
		}
		if root == headerSize && damage.Load() != nil {
			t.Errorf("root %#x: %v", root, *damage.Load())
		}
	}
}

// raw builds a file from a root reference and the bytes behind the header.
func raw(root uint32, body string) []byte {
	data := binary.BigEndian.AppendUint32([]byte("\xb0\x07\xf4\x57\x00\x02\x00\x01"), root)
	return append(data, body...)
}

func TestDamagedTries(t *testing.T) {
	const at = headerSize
	for _, c := range []struct {
		what string
		data []byte
		want error
	}{
		{"child behind the end", raw(at|hasChildren, "aa\x00\x00\xff\xff"), errReference},
		{"prefix without an end", raw(at|hasPrefix, "abc"), errPrefix},
		{"first over last", raw(at|hasChildren, "ba\x00\x00\x00\x0c"), errChildren},
		{"last beyond ASCII", raw(at|hasChildren, "a\x80"+strings.Repeat("\x00", 200)), errChildren},
		{"table cut off", raw(at|hasChildren, "ab\x00\x00\x00\x00"), errChildren},
		{"no room for a table", raw(at|hasChildren, "a"), errChildren},
		{"no room for a count", raw(at|hasValues, "\x00\x00\x00"), errValues},
		{"fewer values than counted", raw(at|hasValues, "\xff\xff\xff\xff\x00\x00\x00\x01m\x00"), errValues},
		{"value without an end", raw(at|hasValues, "\x00\x00\x00\x01\x00\x00\x00\x01m"), errValues},
		{"a child that is its parent", raw(at|hasChildren, "**\x20\x00\x00\x0c"), errKey},
		{"two children that are their parent", raw(at|hasChildren, "*+\x20\x00\x00\x0c\x20\x00\x00\x0c"), errKey},
	} {
		x, damage := readTrie(t, c.data)
		if entries := x.entries(); entries != nil {
			t.Errorf("%s: entries = %v", c.what, entries)
		}
		if err := damage.Load(); err == nil || !errors.Is(*err, c.want) || !strings.Contains((*err).Error(), "test.bin") {
			t.Errorf("%s: damage %v, want %v with the file", c.what, err, c.want)
		}
		s := search{query: []byte("aaa*")}
		s.in(x)
		x.find([]byte("aaa*"))
	}
}

// Branches that share their children make a small file of 2^40 keys. A search
// gives up on it when it has cost what an honest file of the size can cost.
func TestSharedBranches(t *testing.T) {
	var body []byte
	ref := uint32(0)
	for i := range 40 {
		next := uint32(headerSize+len(body)) | hasChildren
		if i == 0 {
			body = append(body, "\x00\x00\x00\x01\x00\x00\x00\x01m\x00"...)
			ref = headerSize | hasValues
			continue
		}
		body = append(body, "*+"...)
		body = binary.BigEndian.AppendUint32(body, ref)
		body = binary.BigEndian.AppendUint32(body, ref)
		ref = next
	}
	x, damage := readTrie(t, raw(ref, string(body)))
	s := search{query: []byte(strings.Repeat("+", 100))}
	if found := s.in(x); found != nil {
		t.Errorf("%d values", len(found))
	}
	if err := damage.Load(); err == nil || !errors.Is(*err, errWork) {
		t.Errorf("damage %v, want %v", err, errWork)
	}
	w := walk{t: x, budget: 1 << 16}
	if err := w.all(x.root, nil); !errors.Is(err, errWork) || len(w.found) == 0 || len(w.found)*entrySize > 1<<16 {
		t.Errorf("a walk with 64 KiB to spend ends with %d entries, %v", len(w.found), err)
	}
}

// covers is the search as the manual page of modprobe would put it: the bytes in
// front of the first wildcard are equal, and fnmatch says yes to the rest.
func covers(pattern, s string) bool {
	i := strings.IndexAny(pattern, "*?[")
	if i < 0 {
		return pattern == s
	}
	return strings.HasPrefix(s, pattern[:i]) && Fnmatch(pattern[i:], s[i:])
}

// checkSearch compares a search in a sound trie with a look at every key.
func checkSearch(t *testing.T, x *trie, all []entry, query string) {
	t.Helper()
	var want, got []string
	for _, e := range all {
		if covers(e.key, query) {
			want = append(want, fmt.Sprintf("%010d %s", e.priority, e.text))
		}
	}
	s := search{query: []byte(query)}
	for _, v := range s.in(x) {
		got = append(got, fmt.Sprintf("%010d %s", v.priority, v.text))
	}
	if !slices.IsSortedFunc(got, func(a, b string) int { return strings.Compare(a[:10], b[:10]) }) {
		t.Errorf("search for %q is not by priority: %q", query, got)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("search for %q in %v (-want +got):\n%s", query, all, diff)
	}
}

// Random patterns over a small alphabet, so that they overlap, against a linear scan.
func TestSearchEqualsLinearScan(t *testing.T) {
	rng := newRand(3)
	word := func(n int, alphabet string) string {
		var b strings.Builder
		for range rng.IntN(n) {
			b.WriteByte(alphabet[rng.IntN(len(alphabet))])
		}
		return b.String()
	}
	for range 400 {
		var pairs []string
		for i := range rng.IntN(30) {
			pattern := word(9, "aaabbbcc**?")
			if rng.IntN(6) == 0 {
				pattern += []string{"[ab]", "[!a]*", `\*`, "[a", `\`}[rng.IntN(5)] + word(3, "ab*?")
			}
			pairs = append(pairs, pattern, fmt.Sprint("m", i%7))
		}
		x, damage := readTrie(t, trieOf(t, pairs...))
		all := x.entries()
		for range 40 {
			checkSearch(t, x, all, word(9, "aaabbbccd"))
		}
		if damage.Load() != nil {
			t.Fatal(*damage.Load())
		}
	}
}

func FuzzTrie(f *testing.F) {
	f.Add(trieOf(f, "pci:v*d*sv*", "a", "pci:v00001AF4d*", "b", "usb:v05ACp12[9A]0d*", "c", "x", "d", `x?\*`, "e"), "pci:v00001AF4d00001001sv0")
	f.Add(trieOf(f), "")
	f.Add(raw(headerSize|hasChildren, "**\x20\x00\x00\x0c"), "aaaa")
	f.Add(raw(headerSize|hasChildren|hasValues, "*+\xa0\x00\x00\x0c\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x01m\x00"), "a+b")
	f.Fuzz(func(t *testing.T, data []byte, query string) {
		damage := new(atomic.Pointer[error])
		x, err := newTrie("test.bin", data, damage)
		if err != nil {
			return
		}
		x.find([]byte(query))
		s := search{query: []byte(query)}
		s.in(&x)
		if len(s.found) > len(data)+1<<20 {
			t.Errorf("%d values from %d bytes", len(s.found), len(data))
		}
		all := x.entries()
		// Wildcards of the query itself take part in the literal walk, as in libkmod.
		if damage.Load() == nil && !strings.ContainsAny(query, "*?[") && len(query) <= maxQuery {
			checkSearch(t, &x, all, query)
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add(sample["modules.dep"], sample["modules.order"], sample["modules.alias"], sample["modules.builtin.modinfo"])
	f.Add("a.ko:\na.ko: b.ko\n", "\n#\n", "alias a\nalias  b\nalias \xff c", "x.alias=\x00.alias=y\x00=")
	f.Fuzz(func(t *testing.T, dep, order, alias, modinfo string) {
		deps, err := parseDeps(dep, order)
		if err != nil {
			deps = nil
		}
		patterns := parsePatterns(alias, func(string) uint32 { return 7 })
		for _, entries := range [][]entry{deps, patterns, parseBuiltins(order), parseModinfo(modinfo)} {
			data, err := encode(entries)
			if err != nil {
				t.Fatal(err)
			}
			x, damage := readTrie(t, data)
			for _, e := range x.entries() {
				if !x.has([]byte(e.key)) {
					t.Errorf("%q is in the index and cannot be found", e.key)
				}
				_, providers, ok := parseDep(string(e.text))
				if err == nil && ok && slices.ContainsFunc(providers, func(p string) bool { return strings.Contains(p, "-") }) {
					t.Errorf("%q needs %q", e.text, providers)
				}
			}
			if damage.Load() != nil {
				t.Errorf("what encode wrote: %v", *damage.Load())
			}
		}
	})
}
