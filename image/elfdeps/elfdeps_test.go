package elfdeps

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// loader is the interpreter of the programs in the tests.
const loader = "/lib64/ld-linux-x86-64.so.2"

// usual is a root with merged /usr and Debian's folders, in which a libc and a loader lie.
func usual(images map[string]image) (map[string]string, map[string]image) {
	all := map[string]image{
		"usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": {soname: "ld-linux-x86-64.so.2"},
		"usr/lib/x86_64-linux-gnu/libc.so.6":            {soname: "libc.so.6", needed: []string{"ld-linux-x86-64.so.2"}},
	}
	for name, im := range images {
		all[name] = im
	}
	return map[string]string{
		"lib": "-> usr/lib", "lib64": "-> usr/lib64", "bin": "-> usr/bin",
		"usr/lib64/ld-linux-x86-64.so.2": "-> /lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
		"etc/ld.so.conf":                 "# comment\ninclude /etc/ld.so.conf.d/*.conf\ninclude absent.conf\n/opt/last # more\n",
		"etc/ld.so.conf.d/a.conf":        "/opt/a\n/lib/x86_64-linux-gnu\n",
		"etc/ld.so.conf.d/z.conf":        "/opt/a:/opt/z\n",
		"etc/ld.so.conf.d/skipped":       "/opt/never\n",
	}, all
}

// listing returns one line for each file of a closure.
func listing(files []File) string {
	var lines strings.Builder
	for _, f := range files {
		fmt.Fprint(&lines, f.Name)
		if f.Real != f.Name {
			fmt.Fprint(&lines, " = ", f.Real)
		}
		if f.By != "" {
			fmt.Fprint(&lines, " by ", f.By)
		}
		if f.Open {
			fmt.Fprint(&lines, ", opened")
		}
		if f.Conf {
			fmt.Fprint(&lines, ", conf")
		}
		lines.WriteByte('\n')
	}
	return lines.String()
}

// Where the loader looks, and in which order.
func TestClosure(t *testing.T) {
	t.Parallel()
	const dir = "usr/lib/x86_64-linux-gnu/"
	libc := "/lib64/ld-linux-x86-64.so.2 = /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 by /p\n"
	for _, tt := range []struct {
		name   string
		images map[string]image
		want   string
	}{
		{"static", map[string]image{"p": {}}, "/p\n"},
		{"libc, once", map[string]image{"p": {interp: loader, needed: []string{"libc.so.6", "ld-linux-x86-64.so.2"}}},
			"/p\n" + libc + "/lib/x86_64-linux-gnu/libc.so.6 = /usr/lib/x86_64-linux-gnu/libc.so.6 by /p\n"},
		{"runpath before conf before default", map[string]image{
			"p":      {interp: loader, needed: []string{"a.so", "b.so", "c.so"}, runpath: "/x:$ORIGIN/y"},
			"y/a.so": {}, "opt/a/a.so": {}, "opt/a/b.so": {}, dir + "b.so": {}, dir + "c.so": {},
		}, "/p\n" + libc + "/y/a.so by /p\n/opt/a/b.so by /p, conf\n/lib/x86_64-linux-gnu/c.so = /usr/lib/x86_64-linux-gnu/c.so by /p\n"},
		{"runpath is not for what libraries need, rpath is", map[string]image{
			"p":      {interp: loader, needed: []string{"a.so"}, runpath: "/x"},
			"x/a.so": {needed: []string{"b.so"}}, "x/b.so": {}, dir + "b.so": {},
		}, "/p\n" + libc + "/x/a.so by /p\n/lib/x86_64-linux-gnu/b.so = /usr/lib/x86_64-linux-gnu/b.so by /x/a.so\n"},
		{"rpath of the program", map[string]image{
			"p":      {interp: loader, needed: []string{"a.so"}, rpath: "/x"},
			"x/a.so": {needed: []string{"b.so"}}, "x/b.so": {}, dir + "b.so": {},
		}, "/p\n" + libc + "/x/a.so by /p\n/x/b.so by /x/a.so\n"},
		{"a runpath hides the rpaths of those above", map[string]image{
			"p":      {interp: loader, needed: []string{"a.so"}, rpath: "/x"},
			"x/a.so": {needed: []string{"b.so"}, runpath: "/y"}, "x/b.so": {}, "y/b.so": {},
		}, "/p\n" + libc + "/x/a.so by /p\n/y/b.so by /x/a.so\n"},
		{"tokens", map[string]image{
			"p":                           {interp: loader, needed: []string{"a.so", "b.so"}, runpath: "/x/${LIB}:/x/$PLATFORM:relative"},
			"x/lib/x86_64-linux-gnu/a.so": {}, "x/x86_64/b.so": {}, "relative/b.so": {},
		}, "/p\n" + libc + "/x/lib/x86_64-linux-gnu/a.so by /p\n/x/x86_64/b.so by /p\n"},
		{"another machine is passed over", map[string]image{
			"p":      {interp: loader, needed: []string{"a.so"}, runpath: "/x:/y"},
			"x/a.so": {machine: elf.EM_AARCH64}, "y/a.so": {},
		}, "/p\n" + libc + "/y/a.so by /p\n"},
		{"no default folders", map[string]image{
			"p":      {interp: loader, needed: []string{"a.so"}, runpath: "/y", flags1: elf.DF_1_NODEFLIB},
			"y/a.so": {}, dir + "a.so": {},
		}, "/p\n" + libc + "/y/a.so by /p\n"},
		{"a path", map[string]image{"p": {interp: loader, needed: []string{"/x/a.so"}}, "x/a.so": {}}, "/p\n" + libc + "/x/a.so by /p\n"},
		{"a circle", map[string]image{
			"p":      {interp: loader, needed: []string{"a.so"}, rpath: "/x"},
			"x/a.so": {soname: "a.so", needed: []string{"b.so"}}, "x/b.so": {needed: []string{"a.so"}},
		}, "/p\n" + libc + "/x/a.so by /p\n/x/b.so by /x/a.so\n"},
		{"notes", map[string]image{
			"p": {interp: loader, rpath: "/x", dlopen: `[{"soname":["no.so","a.so"],"priority":"recommended"},` +
				`{"soname":["b.so"],"priority":"suggested"},{"soname":["no.so"],"priority":"recommended"}]`},
			"x/a.so": {needed: []string{"c.so"}}, "x/b.so": {}, "x/c.so": {},
		}, "/p\n" + libc + "/x/a.so by /p, opened\n/x/c.so by /x/a.so, opened\n"},
		{"needed beats opened", map[string]image{
			"p":      {interp: loader, rpath: "/x", needed: []string{"a.so"}, dlopen: `[{"soname":["b.so"],"priority":"required"}]`},
			"x/a.so": {needed: []string{"b.so"}}, "x/b.so": {},
		}, "/p\n" + libc + "/x/a.so by /p\n/x/b.so by /x/a.so\n"},
		{"the unwinder", map[string]image{
			"p":                   {interp: loader, imports: []string{"puts", "pthread_exit"}},
			dir + "libgcc_s.so.1": {},
		}, "/p\n" + libc + "/lib/x86_64-linux-gnu/libgcc_s.so.1 = /usr/lib/x86_64-linux-gnu/libgcc_s.so.1 by /p, opened\n"},
	} {
		r, err := New(usualRoot(t, tt.images))
		if err != nil {
			t.Fatal(err)
		}
		files, err := r.Closure("p")
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(tt.want, listing(files)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// usualRoot makes a usual root with more files.
func usualRoot(t *testing.T, images map[string]image) string {
	t.Helper()
	files, all := usual(images)
	return makeRoot(t, files, all)
}

// $ORIGIN of a program counts from its real place, that of a library from where it was found.
func TestOriginThroughLinks(t *testing.T) {
	t.Parallel()
	files, images := usual(map[string]image{
		"opt/app/bin/p":     {interp: loader, needed: []string{"a.so"}, runpath: "$ORIGIN/../lib"},
		"opt/app/real/a.so": {soname: "a.so", needed: []string{"b.so"}, runpath: "$ORIGIN"},
		"opt/app/lib/b.so":  {},
		"opt/app/real/b.so": {},
	})
	files["usr/bin/p"] = "-> ../../opt/app/bin/p"
	files["opt/app/lib/a.so"] = "-> ../real/a.so"
	r, err := New(makeRoot(t, files, images))
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Closure("/bin/p")
	if err != nil {
		t.Fatal(err)
	}
	want := "/bin/p = /opt/app/bin/p\n" +
		"/lib64/ld-linux-x86-64.so.2 = /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 by /bin/p\n" +
		"/opt/app/lib/a.so = /opt/app/real/a.so by /bin/p\n/opt/app/lib/b.so by /opt/app/lib/a.so\n"
	if diff := cmp.Diff(want, listing(got)); diff != "" {
		t.Errorf("closure (-want +got):\n%s", diff)
	}
}

// An arm64 root on whatever this is: its folders, its loader, nothing of the host's.
func TestForeignArchitecture(t *testing.T) {
	t.Parallel()
	const arm = elf.EM_AARCH64
	r, err := New(makeRoot(t, map[string]string{"lib": "-> usr/lib", "usr/lib/ld-linux-aarch64.so.1": "-> aarch64-linux-gnu/ld-linux-aarch64.so.1"},
		map[string]image{
			"usr/bin/p": {machine: arm, interp: "/lib/ld-linux-aarch64.so.1", needed: []string{"libc.so.6"}},
			"usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1": {machine: arm, soname: "ld-linux-aarch64.so.1"},
			"usr/lib/aarch64-linux-gnu/libc.so.6":             {machine: arm, soname: "libc.so.6", needed: []string{"ld-linux-aarch64.so.1"}},
		}))
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Closure("/usr/bin/p")
	if err != nil {
		t.Fatal(err)
	}
	want := "/usr/bin/p\n/lib/ld-linux-aarch64.so.1 = /usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1 by /usr/bin/p\n" +
		"/lib/aarch64-linux-gnu/libc.so.6 = /usr/lib/aarch64-linux-gnu/libc.so.6 by /usr/bin/p\n"
	if diff := cmp.Diff(want, listing(got)); diff != "" {
		t.Errorf("closure (-want +got):\n%s", diff)
	}
}

func TestClosureFails(t *testing.T) {
	t.Parallel()
	files, images := usual(map[string]image{
		"lacks":    {interp: loader, needed: []string{"absent.so"}},
		"noloader": {interp: "/lib/absent-loader.so"},
		"required": {interp: loader, dlopen: `[{"soname":["absent.so"],"priority":"required"}]`},
		"badnote":  {interp: loader, dlopen: `{`},
	})
	files["script"] = "#!/bin/sh\n"
	files["damaged"] = "\x7fELF\x02\x01\x01"
	files["circle"] = "-> circle"
	dir := makeRoot(t, files, images)
	r, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"lacks": "/lacks needs absent.so, which is not below " + dir, "noloader": "needs /lib/absent-loader.so",
		"required": "needs absent.so", "badnote": ".note.dlopen", "script": "not an ELF file", "damaged": "damaged ELF file",
		"circle": "too many links", "absent": "no such file", "etc": "not an ELF file",
	} {
		if files, err := r.Closure(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Closure(%s) = %v, %v; want an error with %q", name, files, err, want)
		}
	}
	if _, err := r.Closure("script"); !errors.Is(err, ErrNotELF) {
		t.Errorf("Closure of a script = %v, want ErrNotELF", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/ld.so.conf"), []byte("include /etc/ld.so.conf\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := New(dir); err == nil || !strings.Contains(err.Error(), "includes itself") {
		t.Errorf("New with an ld.so.conf that includes itself = %v", err)
	}
}

// Links of a root never lead out of it.
func TestLinksStayBelow(t *testing.T) {
	t.Parallel()
	dir := makeRoot(t, map[string]string{"a/up": "-> ../../../../b", "abs": "-> /a/up", "b": "x", "etc/passwd": "-> /etc/shadow"}, nil)
	for name, want := range map[string]string{"/a/up": "/b", "/abs": "/b", "/../../b": "/b", "/a/./../b": "/b"} {
		if got, err := root(dir).resolve(name); got != want || err != nil {
			t.Errorf("resolve(%s) = %q, %v; want %q", name, got, err, want)
		}
	}
	if got, err := root(dir).resolve("/etc/passwd"); err == nil {
		t.Errorf("a link to the host's /etc/shadow = %q", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(image{interp: loader, soname: "s", needed: []string{"a", "b"}, rpath: "/x", dlopen: `[{"soname":["a"]}]`}.bytes())
	f.Add(image{runpath: "$ORIGIN", imports: []string{"pthread_exit"}, machine: elf.EM_386}.bytes())
	f.Add([]byte(elf.ELFMAG))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := parse(bytes.NewReader(data))
		if err == nil && o == nil {
			t.Error("neither an object nor an error")
		}
	})
}
