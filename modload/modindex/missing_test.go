package modindex

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// openMissing writes the file for an image with the kept modules and opens it.
func openMissing(t *testing.T, src *Index, kept ...string) *Missing {
	t.Helper()
	file, err := MissingFile(src, kept)
	if err != nil {
		t.Fatal(err)
	}
	m, err := OpenMissing(writeIndex(t, map[string]string{file.Name: string(file.Data)}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(m.Err(), m.Close()); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestMissing(t *testing.T) {
	src := open(t, writeIndex(t, sample))
	for _, tt := range []struct{ kept, modalias, want string }{
		{"", "pci:v00001AF4d00001001sv0sd0bc01sc00i00", "a_x c b"}, // by priority, a_x once
		{"a-x c", "pci:v00001AF4d00001001sv0sd0bc01sc00i00", "b"},
		{"a_x b c", "pci:v00001AF4d00001001sv0sd0bc01sc00i00", ""},
		{"c", "acpi:PNP0501:", "b"},
		{"b", "acpi:PNP0501:", "c"},
		{"c", "dmi:x:bd01/09/2006:svnAcme:y:", "b"},
		{"c", "input:b0v0p0e0-e0,1,k0", ""},
		{"c", "input:b0v0p0e0-e0,1,k0ramlsfw0", "b"},
		{"b", "usb:v05ACp1290d0101dc0", "c"},
		{"b", "usb:v05ACp1280d0101dc0", ""},
		{"a_x", "b", ""},  // an alias, but no device asks for it
		{"a_x", "hw", ""}, // nor for this
		{"a_x", "ext4", ""},
		{"", "lost", ""},
		{"", "", ""},
	} {
		m := openMissing(t, src, strings.Fields(tt.kept)...)
		if got := strings.Join(m.Lookup(tt.modalias), " "); got != tt.want {
			t.Errorf("with %q in the image, Lookup(%q) = %q, want %q", tt.kept, tt.modalias, got, tt.want)
		}
	}
}

func TestMissingIsDeterministic(t *testing.T) {
	src := open(t, writeIndex(t, sample))
	a, errA := MissingFile(src, []string{"a-x", "c"})
	b, errB := MissingFile(src, []string{"c", "a_x", "c"})
	if diff := cmp.Diff(a, b); diff != "" || errA != nil || errB != nil {
		t.Errorf("another order of names, errors %v, %v:\n%s", errA, errB, diff)
	}
}

func TestMissingErrors(t *testing.T) {
	broken := compiled(t, sample)
	broken["modules.alias.bin"] = string(raw(headerSize|hasPrefix, "abc"))
	x, err := Open(writeIndex(t, broken))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if _, err := MissingFile(x, nil); err == nil || !strings.Contains(err.Error(), "modules.alias.bin") {
		t.Errorf("MissingFile of a damaged index = %v", err)
	}
	if _, err := OpenMissing(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenMissing of a folder without the file = %v, want fs.ErrNotExist", err)
	}
	for _, c := range []struct{ data, want string }{
		{"", "too short"},
		{"not an index at all", "magic"},
		{string(trieOf(t)) + strings.Repeat("\x00", maxMissing), "more than"},
	} {
		if _, err := OpenMissing(writeIndex(t, map[string]string{missingFile: c.data})); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("OpenMissing of %.20q = %v, want an error with %q", c.data, err, c.want)
		}
	}
	m, err := OpenMissing(writeIndex(t, map[string]string{missingFile: string(raw(headerSize|hasPrefix, "abc"))}))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if names := m.Lookup("abc"); names != nil || m.Err() == nil || !strings.Contains(m.Err().Error(), missingFile) {
		t.Errorf("Lookup in a damaged file = %q, Err = %v", names, m.Err())
	}
}

// A file that loses its end while it is mapped answers nothing, and says so.
func TestMissingShrinks(t *testing.T) {
	var pairs []string
	for i := range 2000 {
		pairs = append(pairs, "pci:v"+strings.Repeat(string(rune('a'+i%26)), 1+i/26)+"*", "m")
	}
	dir := writeIndex(t, map[string]string{missingFile: string(trieOf(t, pairs...))})
	m, err := OpenMissing(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := os.Truncate(filepath.Join(dir, missingFile), headerSize); err != nil {
		t.Fatal(err)
	}
	if names := m.Lookup("pci:vaaa"); names != nil || !errors.Is(m.Err(), errShrunk) {
		t.Errorf("Lookup in a file that shrank = %q, Err = %v", names, m.Err())
	}
}

// Nodes that are the same are there once, and the keys are none the fewer.
func TestSharedNodes(t *testing.T) {
	var entries []entry
	for _, key := range []string{"pci:v1d1sv*sd*", "pci:v1d2sv*sd*", "pci:v2d1sv*sd*", "pci:v2d2sv*sd*", "pci:v2d3sv*", "usb:v1sv*sd*", ""} {
		entries = append(entries, entry{key, value{3, []byte("driver")}}, entry{key, value{4, []byte("other")}})
	}
	plain, errPlain := encode(entries)
	e := encoder{written: map[writtenNode]uint32{}}
	small, err := e.file(entries)
	if err != nil || errPlain != nil {
		t.Fatal(err, errPlain)
	}
	ending := "sv*sd*\x00"
	if n, all := strings.Count(string(small), ending), strings.Count(string(plain), ending); n != 2 || all != 5 {
		t.Errorf("%d nodes end in %q, of %d; want 2 of 5", n, ending, all)
	}
	a, damageA := readTrie(t, plain)
	b, damageB := readTrie(t, small)
	sameEntry := cmp.Comparer(func(a, b entry) bool { return a.String() == b.String() })
	if diff := cmp.Diff(a.entries(), b.entries(), sameEntry); diff != "" || damageA.Load() != nil || damageB.Load() != nil {
		t.Errorf("entries (-plain +shared):\n%s", diff)
	}
}

// On a real tree, the modules that serve a device with an image are those that
// serve it with the whole tree: some in the image, the others missing.
func TestMissingComplements(t *testing.T) {
	eachTree(t, func(t *testing.T, dir string) {
		src := open(t, dir)
		kept := map[string]bool{}
		for i, name := range src.byPriority() {
			if i%4 == 0 {
				kept[name] = true
			}
		}
		m := openMissing(t, src, slices.Collect(maps.Keys(kept))...)
		g := instance{newRand(11)}
		queries, hits := 0, 0
		for i, e := range src.aliases.entries() {
			if !ofDevice(e.key) || i%3 != 0 {
				continue
			}
			query := g.fill(e.key)
			var want []string
			for _, v := range (&search{query: []byte(Normalize(query))}).in(&src.aliases) {
				if name := string(v.text); !kept[name] {
					want = appendNew(want, []string{name})
				}
			}
			if got := m.Lookup(query); !slices.Equal(got, want) {
				t.Errorf("Lookup(%q) = %q, want %q", query, got, want)
			}
			queries++
			hits += min(1, len(want))
		}
		if hits < queries/2 || hits == queries {
			t.Errorf("%d of %d queries had a match: not a test", hits, queries)
		}
	})
}

// That nodes are shared is nothing to libkmod: with the file in the place of
// modules.alias.bin, modprobe -R gives the same answers.
func TestMissingReadByModprobe(t *testing.T) {
	eachTree(t, func(t *testing.T, dir string) {
		src := open(t, dir)
		file, err := MissingFile(src, nil)
		if err != nil {
			t.Fatal(err)
		}
		swapped := linkTree(t, dir, "")
		place := filepath.Join(swapped, "modules.alias.bin")
		if err := errors.Join(os.Remove(place), os.WriteFile(place, file.Data, 0o644)); err != nil {
			t.Fatal(err)
		}
		m, k, g := openMissing(t, src), newKmod(t, swapped), instance{newRand(13)}
		var queries []string
		for _, e := range src.aliases.entries() {
			if ofDevice(e.key) && g.rng.IntN(10) == 0 {
				queries = append(queries, g.fill(e.key))
			}
		}
		const mark = "hapax_mark" // only an install line knows it
		if err := os.WriteFile(filepath.Join(k.conf, "mark.conf"), []byte("install "+mark+" mark\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		hits := 0
		for i, want := range k.resolve(queries, mark) {
			got := m.Lookup(queries[i])
			if got == nil {
				got = src.Lookup(queries[i]).Names // those of built-in modules
			}
			if !slices.Equal(want, got) {
				t.Errorf("%q (-modprobe +Lookup):\n%s", queries[i], cmp.Diff(want, got))
			}
			hits += min(1, len(want))
		}
		if hits < len(queries)/2 {
			t.Errorf("%d of %d queries had a match: not a test", hits, len(queries))
		}
		t.Logf("%d queries, %d with a match", len(queries), hits)
	})
}

// missingSize is what the file may have for a whole kernel of which an image takes nothing.
const missingSize = 700_000

func TestMissingSize(t *testing.T) {
	eachTree(t, func(t *testing.T, dir string) {
		src := open(t, dir)
		file, err := MissingFile(src, nil)
		if err != nil {
			t.Fatal(err)
		}
		x, _ := readTrie(t, file.Data)
		plain, err := encode(x.entries())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d bytes, %d with every node written", len(file.Data), len(plain))
		if len(file.Data) > missingSize || len(file.Data) > len(plain)*2/3 {
			t.Errorf("%d bytes, want at most %d and two thirds of %d", len(file.Data), missingSize, len(plain))
		}
	})
}

func FuzzMissing(f *testing.F) {
	e := encoder{written: map[writtenNode]uint32{}}
	shared, err := e.file([]entry{
		{"pci:v1d1sv*sd*", value{1, []byte("a")}}, {"pci:v1d2sv*sd*", value{1, []byte("a")}}, {"usb:v[0-9]*", value{2, []byte("b")}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(shared, "pci:v1d2sv3sd4")
	f.Add(trieOf(f), "")
	loop := raw(headerSize|hasChildren, "**")
	f.Add(binary.BigEndian.AppendUint32(loop, headerSize|hasChildren), "aaaa")
	f.Fuzz(func(t *testing.T, data []byte, modalias string) {
		m := newMissing("")
		var err error
		if m.x.aliases, err = newTrie(missingFile, data, &m.x.damage); err != nil {
			return
		}
		if names := m.Lookup(modalias); len(names) > len(data)+1<<20 {
			t.Errorf("%d names from %d bytes", len(names), len(data))
		}
	})
}
