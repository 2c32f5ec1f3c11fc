package modindex

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sample is the text form of a small index. In it b has no line in modules.order.
var sample = map[string]string{
	"modules.dep": `kernel/lib/c.ko.xz:
kernel/drivers/a-x.ko.xz: kernel/drivers/b.ko.xz kernel/lib/c.ko.xz
kernel/drivers/b.ko.xz: kernel/lib/c.ko.xz
/opt/far.ko: kernel/lib/c.ko.xz
kernel/crypto/crc.ko.xz:
`,
	"modules.order": "kernel/drivers/a-x.ko\nkernel/lib/c.ko\nkernel/crypto/crc.ko\n",
	"modules.alias": `# Aliases extracted from modules themselves.
alias pci:v00001AF4d*sv*sd*bc*sc*i* c
alias pci:v00001AF4d00001001sv*sd*bc*sc*i* b
alias pci:v00001AF4d*sv*sd*bc01sc*i* a_x
alias pci:v*d*sv*sd*bc01sc*i* a-x
alias dmi*:bd01/09/2006*:svnAcme*:* b
alias usb:v05ACp12[9A]0d010[0-9]dc* c
alias input:b*v*p*e*-e0,*1,*k*r*a*m*l*s*f*w* b
alias acpi*:PNP0501:* b
alias acpi*:PNP050?:* c
alias b c
alias hw a_x
alias crypto-x]y c
alias over crc
alias lost gone
`,
	"modules.symbols":         "alias symbol:do_b b\nalias symbol:do_c c\n",
	"modules.builtin":         "kernel/fs/ext4/ext4.ko\nkernel/kernel/over.ko\nkernel/lib/crc.ko\nkernel/fs/plain-one.ko\n",
	"modules.builtin.modinfo": "ext4.license=GPL\x00ext4.alias=fs-ext4\x00debugfs.alias=fs-debugfs\x00ext4.alias=hw\x00",
	"modules.softdep":         "softdep a_x pre: b fs-ext4 post: hw\n",
}

// compiled returns files with .bin files in place of their text twins, as encode makes them.
func compiled(t testing.TB, files map[string]string) map[string]string {
	t.Helper()
	x := open(t, writeIndex(t, files))
	out := map[string]string{}
	for name, data := range files {
		out[name] = data
	}
	for _, name := range twins {
		delete(out, name)
	}
	for i, p := range []*trie{&x.deps, &x.aliases, &x.symbols, &x.builtins, &x.builtinAliases} {
		out[binFiles[i]] = string(p.data)
	}
	return out
}

var lookupCases = []struct {
	what, query string
	want        Hits
}{
	{"a name", "b", Hits{Names: []string{"b"}}}, // it is an alias of c too, and the name wins
	{"a name in its other spelling", "a-x", Hits{Names: []string{"a_x"}}},
	{"a module kept elsewhere", "far", Hits{Names: []string{"far"}}},
	{"an alias that a built-in module has too", "hw", Hits{[]string{"a_x"}, true}},
	{"an alias with the name of a built-in module", "over", Hits{[]string{"crc"}, true}},
	{"a built-in module", "plain_one", Hits{Names: []string{"plain_one"}}},
	{"a built-in module in its other spelling", "plain-one", Hits{Names: []string{"plain_one"}}},
	{"an alias of a built-in module", "fs-ext4", Hits{[]string{"ext4"}, true}},
	{"an alias of what cannot be a module", "fs-debugfs", Hits{[]string{"debugfs"}, true}},
	{"an alias of a module without a file", "lost", Hits{[]string{"gone"}, true}},
	{"a symbol", "symbol:do_b", Hits{[]string{"b"}, true}},
	{"an unknown symbol", "symbol:do_d", Hits{}},
	{"several modules, by modules.order; one of them twice", "pci:v00001AF4d00001001sv0sd0bc01sc00i00", Hits{[]string{"a_x", "c", "b"}, true}},
	{"one pattern of several", "pci:v00001000d00001001sv0sd0bc01sc00i00", Hits{[]string{"a_x"}, true}},
	{"a slash below a star", "dmi:bvnX:bd01/09/2006:br1:svnAcme/Co:pnY:", Hits{[]string{"b"}, true}},
	{"another date", "dmi:bvnX:bd02/09/2006:br1:svnAcme:pnY:", Hits{}},
	{"classes", "usb:v05ACp1290d0105dc00", Hits{[]string{"c"}, true}},
	{"classes, the other letter", "usb:v05ACp12A0d0105dc00", Hits{[]string{"c"}, true}},
	{"classes, a wrong letter", "usb:v05ACp12B0d0105dc00", Hits{}},
	{"a dash in the pattern", "input:b0v0p0e1-e0,1,k1ramlsfw", Hits{[]string{"b"}, true}},
	{"a star and a question mark", "acpi:PNP0501:PNP0500:", Hits{[]string{"c", "b"}, true}},
	{"the question mark alone", "acpi:X:PNP050F:", Hits{[]string{"c"}, true}},
	{"a line end behind the device", "symbol:do_b\n", Hits{}},
	{"brackets without partners", "pci:v00001000d]-[sv0sd0bc01sc00i00", Hits{[]string{"a_x"}, true}},
	{"a pattern that depmod drops", "crypto-x]y", Hits{}},
	{"nothing", "", Hits{}},
	{"a NUL", "b\x00", Hits{}},
	{"beyond ASCII", "b\xff", Hits{}},
	{"the longest", strings.Repeat("b", maxQuery), Hits{}},
	{"too long", "dmi:bd01/09/2006:svnAcme:" + strings.Repeat("b", maxQuery), Hits{}},
	{"wildcards in the query", "pci:*", Hits{}},
}

func TestLookup(t *testing.T) {
	for form, files := range map[string]map[string]string{"text": sample, "bin": compiled(t, sample)} {
		x := open(t, writeIndex(t, files))
		for _, c := range lookupCases {
			if diff := cmp.Diff(c.want, x.Lookup(c.query)); diff != "" {
				t.Errorf("%s: %s: Lookup(%.60q) (-want +got):\n%s", form, c.what, c.query, diff)
			}
		}
	}
}

func TestModule(t *testing.T) {
	for form, files := range map[string]map[string]string{"text": sample, "bin": compiled(t, sample)} {
		x := open(t, writeIndex(t, files))
		for name, want := range map[string]Module{
			"c":       {Name: "c", Path: "kernel/lib/c.ko.xz"},
			"a-x":     {Name: "a_x", Path: "kernel/drivers/a-x.ko.xz", Deps: []string{"c", "b"}, Pre: []string{"b", "fs-ext4"}, Post: []string{"hw"}},
			"far":     {Name: "far", Path: "/opt/far.ko", Deps: []string{"c"}},
			"ext4":    {Name: "ext4", Builtin: true},
			"crc":     {Name: "crc", Builtin: true}, // it has a file as well
			"debugfs": {Name: "debugfs", Builtin: true},
		} {
			got, ok := x.Module(name)
			if diff := cmp.Diff(want, got); diff != "" || !ok {
				t.Errorf("%s: Module(%q) = %v (-want +got):\n%s", form, name, ok, diff)
			}
		}
		for _, name := range []string{"", "gone", "fs-ext4", "pci:v00001AF4d*sv*sd*bc*sc*i*"} {
			if m, ok := x.Module(name); ok {
				t.Errorf("%s: Module(%q) = %v, want none", form, name, m)
			}
		}
	}
}

func TestAll(t *testing.T) {
	x := open(t, writeIndex(t, compiled(t, sample)))
	var got []string
	for m := range x.All() {
		got = append(got, m.Name)
	}
	// In modules.order first; crc has a file and is built in all the same.
	if diff := cmp.Diff([]string{"a_x", "c", "b", "far"}, got); diff != "" {
		t.Errorf("All (-want +got):\n%s", diff)
	}
	for m := range x.All() {
		if m.Name != "a_x" {
			t.Errorf("All goes on with %s after a break", m.Name)
		}
		break
	}
}

func TestLookupAllocatesNothingOnMiss(t *testing.T) {
	x := open(t, writeIndex(t, compiled(t, sample)))
	var s search // Lookup takes it from a pool, which drops some under the race detector
	for _, query := range []string{"none", "no-such-module", "dmi:bvnX:bd02/09/2006:br1:svnAcme:pnY:", "acpi:PNP0400:" + strings.Repeat("PNP050:", 200)} {
		miss := func() {
			s.set(query)
			if hits := x.ask(&s, nil); hits.Names != nil {
				t.Fatalf("%q has hits: %v", query, hits)
			}
		}
		if n := testing.AllocsPerRun(100, miss); n != 0 {
			t.Errorf("%.40q: %v allocations, want 0", query, n)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	x := open(t, writeIndex(t, compiled(t, sample)))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				for _, c := range lookupCases {
					if diff := cmp.Diff(c.want, x.Lookup(c.query)); diff != "" {
						t.Errorf("Lookup(%.60q) (-want +got):\n%s", c.query, diff)
					}
				}
				if m, ok := x.Module("a-x"); !ok || len(m.Pre) != 2 {
					t.Errorf("Module(a-x) = %+v, %v", m, ok)
				}
			}
		})
	}
	wg.Wait()
}

func TestOpenWithoutIndex(t *testing.T) {
	dir := writeIndex(t, map[string]string{"modules.order": "kernel/a.ko\n"}) // as a package has it
	_, err := Open(dir)
	var missing *MissingError
	if !errors.As(err, &missing) || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Open = %v, want a MissingError", err)
	}
	root := strings.TrimSuffix(dir, "/lib/modules/test")
	if remedy := "depmod -b " + root + " test"; !strings.Contains(err.Error(), dir+":") || !strings.Contains(err.Error(), remedy) {
		t.Errorf("Open = %q, want the folder and %q", err, remedy)
	}
	for dir, remedy := range map[string]string{
		"/lib/modules/6.1":     "depmod -b / 6.1",
		"/x/usr/lib/modules/1": "depmod -b /x/usr 1",
		"lib/modules/6.1":      "depmod -b . 6.1",
		"6.1":                  "depmod -b . 6.1",
	} {
		if text := (&MissingError{dir}).Error(); !strings.HasSuffix(text, remedy) {
			t.Errorf("the error for %s is %q, want %q at its end", dir, text, remedy)
		}
	}
}

func TestOpenFallsBackToText(t *testing.T) {
	bad := map[string]string{
		"empty":         "",
		"short":         "\xb0\x07\xf4\x57\x00\x02\x00\x01",
		"other magic":   "\xb0\x07\xf4\x58\x00\x02\x00\x01\x00\x00\x00\x0c",
		"other major":   "\xb0\x07\xf4\x57\x00\x03\x00\x01\x00\x00\x00\x0c",
		"root far away": "\xb0\x07\xf4\x57\x00\x02\x00\x01\x20\x00\x00\x0d",
	}
	for what, header := range bad {
		files := map[string]string{}
		for name, data := range sample {
			files[name] = data
		}
		for _, name := range binFiles {
			files[name] = header
		}
		x := open(t, writeIndex(t, files))
		for _, c := range lookupCases {
			if diff := cmp.Diff(c.want, x.Lookup(c.query)); diff != "" {
				t.Errorf("%s: Lookup(%.60q) (-want +got):\n%s", what, c.query, diff)
			}
		}
		// Without the twin: no index at all, or a part that knows nothing.
		if _, err := Open(writeIndex(t, map[string]string{"modules.dep.bin": header})); err == nil || !strings.Contains(err.Error(), "modules.dep.bin") {
			t.Errorf("%s: Open of a damaged modules.dep.bin = %v, want an error that names it", what, err)
		}
		x, err := Open(writeIndex(t, map[string]string{"modules.dep": sample["modules.dep"], "modules.alias.bin": header}))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if hits := x.Lookup("hw"); hits.Names != nil || x.Err() == nil || !strings.Contains(x.Err().Error(), "modules.alias.bin") {
			t.Errorf("%s: Lookup = %v, Err = %v, want none and an error that names modules.alias.bin", what, hits, x.Err())
		}
		x.Close()
	}
}

func TestOpenBadText(t *testing.T) {
	for what, dep := range map[string]string{"no colon": "kernel/a.ko\n", "no path": ": kernel/b.ko\n"} {
		_, err := Open(writeIndex(t, map[string]string{"modules.dep": dep}))
		if !errors.Is(err, errDepLine) || !strings.Contains(err.Error(), "modules.dep") {
			t.Errorf("%s: Open = %v, want the line and the file", what, err)
		}
	}
	dir := writeIndex(t, nil)
	if err := os.Mkdir(filepath.Join(dir, "modules.dep.bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Open of a folder named modules.dep.bin = %v", err)
	}
}

func TestMinorVersion(t *testing.T) {
	files := compiled(t, sample)
	for _, name := range binFiles {
		files[name] = files[name][:7] + "\x09" + files[name][8:]
	}
	x := open(t, writeIndex(t, files))
	if hits := x.Lookup("hw"); len(hits.Names) != 1 {
		t.Errorf("an index of a later minor version: Lookup = %v", hits)
	}
}

// A file that loses its end while it is mapped faults at the next look. That is
// no match and an Err, not the end of the process.
func TestShrunkFile(t *testing.T) {
	files := compiled(t, sample)
	// Keys of their own pages, so that the first page alone does not do.
	var entries []entry
	for i := range 2000 {
		entries = append(entries, entry{strings.Repeat(string(rune('a'+i%26)), 1+i/26), value{uint32(i), []byte("c")}})
	}
	data, err := encode(entries)
	if err != nil {
		t.Fatal(err)
	}
	files["modules.alias.bin"] = string(data)
	dir := writeIndex(t, files)
	x, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if hits := x.Lookup("zzz"); len(hits.Names) != 1 {
		t.Fatalf("Lookup = %v before the file shrinks", hits)
	}
	if err := os.Truncate(filepath.Join(dir, "modules.alias.bin"), 12); err != nil {
		t.Fatal(err)
	}
	if hits := x.Lookup("zzz"); hits.Names != nil || !errors.Is(x.Err(), errShrunk) {
		t.Errorf("Lookup = %v, Err = %v, want none and %v", hits, x.Err(), errShrunk)
	}
	if m, ok := x.Module("c"); !ok || m.Path == "" {
		t.Errorf("Module(c) = %v, %v: the other files are sound", m, ok)
	}
	if os.Truncate(filepath.Join(dir, "modules.dep.bin"), 0) != nil || os.Truncate(filepath.Join(dir, "modules.builtin.bin"), 0) != nil {
		t.Fatal("cannot truncate")
	}
	if m, ok := x.Module("c"); ok {
		t.Errorf("Module = %v of a file that is gone", m)
	}
	for m := range x.All() {
		t.Errorf("All yields %v of a file that is gone", m)
	}
}

// What is not a fault of the mapping stays a panic.
func TestCaughtPassesOthersOn(t *testing.T) {
	defer func() {
		if r := recover(); r != "other" {
			t.Errorf("recovered %v, want other", r)
		}
	}()
	x := new(Index)
	defer x.caught(false)
	panic("other")
}
