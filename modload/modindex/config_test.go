package modindex

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writeConfig makes a root folder with the given files, by their paths, and returns it.
func writeConfig(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, data := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// config reads one file of modprobe.d(5), in which every line must be good, and a command line.
func config(t testing.TB, lines, cmdline string) *Config {
	t.Helper()
	root := writeConfig(t, map[string]string{"etc/modprobe.d/test.conf": lines})
	c, problems := ReadConfig(ConfigDirs(root), cmdline)
	for _, err := range problems {
		t.Error(err)
	}
	return c
}

// A file hides those of its name in less important folders, and what is left is
// read by file name, from whichever folder it comes.
func TestReadConfigOverride(t *testing.T) {
	root := writeConfig(t, map[string]string{
		"etc/modprobe.d/same.conf":           "options m p=etc\n",
		"usr/lib/modprobe.d/same.conf":       "options m p=hidden\n",
		"lib/modprobe.d/same.conf":           "options m p=hidden\n",
		"lib/modprobe.d/10.conf":             "options m p=10\n",
		"run/modprobe.d/9.conf":              "options m p=9\n",
		"usr/local/lib/modprobe.d/B.conf":    "options m p=B\n",
		"etc/modprobe.d/a.conf":              "options m p=a\n",
		"usr/lib/modprobe.d/masked.conf":     "options m p=masked\n",
		"usr/lib/modprobe.d/unmasked.conf":   "options m p=unmasked\n",
		"usr/lib/modprobe.d/folder.conf":     "options m p=folder\n",
		"etc/modprobe.d/folder.conf/x.conf":  "options m p=below\n",
		"etc/modprobe.d/.dot.conf":           "options m p=dot\n",
		"etc/modprobe.d/backup.conf~":        "options m p=backup\n",
		"etc/modprobe.d/conf":                "options m p=conf\n",
		"etc/modprobe.d/older.alias":         "options m p=alias\n",
		"opt/modprobe.d/not-in-the-list.cnf": "options m p=opt\n",
	})
	for link, target := range map[string]string{"masked.conf": "/dev/null", "unmasked.conf": "/nonexistent"} {
		if err := os.Symlink(target, filepath.Join(root, "etc/modprobe.d", link)); err != nil {
			t.Fatal(err)
		}
	}
	c, problems := ReadConfig(ConfigDirs(root), "m.p=cmdline")
	if got, want := c.Options("m"), "p=10 p=9 p=B p=a p=folder p=etc p=unmasked p=cmdline"; got != want {
		t.Errorf("Options = %q, want %q", got, want)
	}
	if len(problems) != 2 { // a folder and a link to nothing
		t.Errorf("problems = %q, want two", problems)
	}
}

func TestReadConfigOfFiles(t *testing.T) {
	root := writeConfig(t, map[string]string{"b": "options m p=b\n", "a.conf": "options m p=a\n", "x/b": "options m p=hidden\n"})
	c, problems := ReadConfig([]string{root + "/b", root + "/a.conf", root + "/x/b", root + "/none", root + "/b/none"}, "")
	if got := c.Options("m"); got != "p=a p=b" || problems != nil {
		t.Errorf("Options = %q, %q", got, problems)
	}
}

// One bad line costs that line.
func TestBadLine(t *testing.T) {
	manyWords := strings.Repeat(" b", maxQueries+1)
	longLine := " " + strings.Repeat("b", maxConfigLine)
	const rest = "install: nothing follows the name of the module"
	for line, want := range map[string]string{
		"blacklist":                  "blacklist: no module is named",
		"blacklist \t":               "blacklist: no module is named",
		"alias a":                    "alias: nothing follows the name of the module",
		"alias a ":                   "alias: nothing follows the name of the module",
		"alias a  ":                  "alias: no module is named",
		"alias a] b":                 `alias: the brackets of "a]" are not balanced`,
		"alias a b[":                 `alias: the brackets of "b[" are not balanced`,
		"options a":                  "options: nothing follows the name of the module",
		"install a":                  rest,
		"install a ":                 rest,
		"remove a":                   "remove: nothing follows the name of the module",
		"softdep a":                  "softdep: nothing follows the name of the module",
		"softdep a pre:" + manyWords: "softdep: more than 256 words",
		"weakdep a" + manyWords:      "weakdep: more than 256 words",
		"weakdep a":                  "weakdep: nothing follows the name of the module",
		"deny":                       "deny: no module is named",
		"deny b] kept":               `deny: the brackets of "b]" are not balanced`,
		"include /etc/x":             "include: not supported any more",
		"config x":                   "config: not supported any more",
		"Blacklist a":                `unknown keyword "Blacklist"`,
		" # not the first byte":      `unknown keyword "#"`,
		"\\\n # continued":           `unknown keyword "#"`,
		"x\ufffd":                    `unknown keyword "x�"`,
		"options a" + longLine:       "a line of more than 65536 bytes",
	} {
		root := writeConfig(t, map[string]string{"lib/modprobe.d/bad.conf": "blacklist before \\\n\n" + line + "\nblacklist after"})
		c, problems := ReadConfig(ConfigDirs(root), "")
		file := filepath.Join(root, "lib/modprobe.d/bad.conf")
		if len(problems) != 1 || problems[0].Error() != file+":3: "+want {
			t.Errorf("%.30q: problems = %q, want %q", line, problems, want)
		}
		var bad *ConfigError
		if !errors.As(errors.Join(problems...), &bad) || bad.File != file || bad.Line != 3 {
			t.Errorf("%.30q: %+v is not a ConfigError for line 3", line, bad)
		}
		if !c.Blacklisted("before") || !c.Blacklisted("after") || c.Blacklisted("a") {
			t.Errorf("%.30q: the rest is lost", line)
		}
		if _, denied := c.Denied("kept"); denied != strings.Contains(line, "kept") {
			t.Errorf("%.30q: Denied(kept) = %v", line, denied)
		}
	}
}

func TestConfigLines(t *testing.T) {
	const data = "a\n\n#c\n# c \\\nstill c\nb \\\n c\\\n\\\nd\n\\e \\\\\n\\\\\\\nf\nx\x00y\n\x00\n #\n  \nl\\"
	var got []string
	for n, line := range configLines(data) {
		got = append(got, fmt.Sprint(n, " ", line))
	}
	want := []string{"1 a", "6 b  cd", `10 e \`, `11 \f`, "13 x", "15  #", "16   ", "17 l"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configLines (-want +got):\n%s", diff)
	}
}

// Continued lines, tabs, quotes and quoted blanks.
func TestOptionsContinued(t *testing.T) {
	c := config(t, "options\ta-b\t p=1\tq=2\\\n r=\"x\ty\" \\\n\ts='z'\noptions a_b  \noptions c p=\\\"a b\\\"\n", "")
	for name, want := range map[string]string{
		"a_b": ` p=1 q=2 r="x y"  s='z'` + "  ",
		"a-b": ` p=1 q=2 r="x y"  s='z'` + "  ",
		"c":   `p="a b"`,
		"d":   "",
	} {
		if got := c.Options(name); got != want {
			t.Errorf("Options(%q) = %q, want %q", name, got, want)
		}
	}
}

// The lines about the module and about the alias that it was reached by, in
// their order, and the command line last.
func TestOptionsOrder(t *testing.T) {
	c := config(t, `alias net-0 a_x
alias eth* b
options fs-foo p=1
options a_x p=2
options fs-foo p=3
options net-0 p=4
options eth* p=5
options eth0 p=6
options b p=7
options pci:v00001AF4* p=8
`, "fs-foo.p=9 a-x.p=10 b.p=11")
	v := open(t, writeIndex(t, sample)).With(c)
	for _, q := range []struct{ name, query, want string }{
		{"a_x", "", "p=2 p=10"}, // as a dependency
		{"a_x", "a-x", "p=2 p=10"},
		{"a_x", "fs-foo", "p=1 p=2 p=3 p=9 p=10"}, // an alias of the index
		{"a_x", "net-0", "p=2 p=4 p=10"},
		{"b", "eth0", "p=5 p=7 p=11"}, // the alias is what the line says
		{"c", "eth0", ""},             // which is not about c
		{"c", "pci:v00001AF4d0", ""},  // options lines are about names
		{"d", "", ""},
	} {
		if got := v.Options(q.name, q.query); got != q.want {
			t.Errorf("Options(%q, %q) = %q, want %q", q.name, q.query, got, q.want)
		}
	}
	if got := c.Options("a_x", "fs_foo", "a_x", "net_0"); got != "p=1 p=2 p=3 p=4 p=9 p=10" {
		t.Errorf("Options with three aliases = %q", got)
	}
}

func TestCommands(t *testing.T) {
	c := config(t, "install a-b  one $CMDLINE_OPTS\ninstall a* two;\\\n three\ninstall a_b four\nremove *_c five # six\n", "")
	for _, q := range []struct{ what, got, want string }{
		{"Install(a_b)", c.Install("a_b"), " one $CMDLINE_OPTS"}, // the first line
		{"Install(a-b)", c.Install("a-b"), " one $CMDLINE_OPTS"},
		{"Install(ab)", c.Install("ab"), "two; three"},
		{"Install(b)", c.Install("b"), ""},
		{"Remove(a-c)", c.Remove("a-c"), "five # six"},
		{"Remove(a)", c.Remove("a"), ""},
	} {
		if q.got != q.want {
			t.Errorf("%s = %q, want %q", q.what, q.got, q.want)
		}
	}
}

func TestExpandInstall(t *testing.T) {
	for _, c := range []struct{ command, options, want string }{
		{"/sbin/x --y $CMDLINE_OPTS", "p=1 q=2", "/sbin/x --y p=1 q=2"},
		{"x $CMDLINE_OPTS; y $CMDLINE_OPTS", "p", "x p; y p"},
		{"x $CMDLINE_OPTS", "", "x "},
		{"x $CMDLINE_OPTS", "$CMDLINE_OPTS", "x $CMDLINE_OPTS"}, // libkmod goes round for ever
		{"x", "p", "x"},
	} {
		if got := ExpandInstall(c.command, c.options); got != c.want {
			t.Errorf("ExpandInstall(%q, %q) = %q, want %q", c.command, c.options, got, c.want)
		}
	}
}

// deny lines, hapax.deny= and the kernel's own list say where they stand; a
// blacklist denies nothing.
func TestDenied(t *testing.T) {
	root := writeConfig(t, map[string]string{"etc/modprobe.d/a.conf": "# no floppies\ndeny floppy snd-*\tx[0-9]y\nblacklist b\n"})
	c, problems := ReadConfig(ConfigDirs(root), `hapax.deny=pcspkr,,usb* hapax.deny="uas,k" module_blacklist=x module_blacklist=k,n-o hapax.log=debug`)
	if problems != nil {
		t.Error(problems)
	}
	line := filepath.Join(root, "etc/modprobe.d/a.conf:2")
	const hapax, kernel = "hapax.deny= on the kernel command line", "module_blacklist= on the kernel command line"
	for name, want := range map[string]string{
		"floppy": line, "snd_hda": line, "snd-hda": line, "x5y": line, "xay": "", "snd": "", "b": "",
		"pcspkr": hapax, "usbcore": hapax, "uas": hapax, "k": hapax, "": "",
		"x": "", "n-o": kernel, "n_o": "", // the last one counts; byte by byte
	} {
		got, denied := c.Denied(name)
		if got != want || denied != (want != "") {
			t.Errorf("Denied(%q) = %q, %v, want %q", name, got, denied, want)
		}
	}
	if got := c.Options("hapax"); got != "log=debug" {
		t.Errorf("Options(hapax) = %q", got)
	}
}

// What is out of all proportion is left out, with a note, and does not stop the rest.
func TestReadConfigBounds(t *testing.T) {
	files := map[string]string{
		"etc/modprobe.d/a.conf":    "blacklist small\n",
		"etc/modprobe.d/huge.conf": "blacklist huge\n" + strings.Repeat("#", maxConfigFile),
		"etc/modprobe.d/junk.conf": strings.Repeat("junk\n", 3*maxConfigNotes) + "blacklist behind\n",
	}
	for i := range maxConfigTotal/maxConfigFile + 1 {
		files[fmt.Sprintf("run/modprobe.d/m%d.conf", i)] = fmt.Sprintf("blacklist m%d\n#", i) + strings.Repeat("x", maxConfigFile-64)
	}
	for i := range maxConfigFiles + 5 {
		files[fmt.Sprintf("usr/lib/modprobe.d/x%d.conf", i)] = ""
	}
	root := writeConfig(t, files)
	if err := syscall.Mkfifo(filepath.Join(root, "etc/modprobe.d/pipe.conf"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, problems := ReadConfig(ConfigDirs(root), "")
	for name, want := range map[string]bool{"small": true, "huge": false, "behind": true, "m0": true, "m8": false} {
		if got := c.Blacklisted(name); got != want {
			t.Errorf("Blacklisted(%q) = %v, want %v", name, got, want)
		}
	}
	if last := len(problems) - 1; last != maxConfigNotes || !strings.Contains(problems[last].Error(), "more lines or files were skipped") {
		t.Errorf("%d problems, the last one %q", len(problems), problems[last])
	}
	all := errors.Join(problems...).Error()
	for _, want := range []string{"huge.conf: more than 1048576 bytes", "one of more than 1024 files", "junk.conf:1: unknown keyword"} {
		if !strings.Contains(all, want) {
			t.Errorf("no problem says %q", want)
		}
	}
}

func TestReadConfigWithoutFiles(t *testing.T) {
	c, problems := ReadConfig(ConfigDirs(t.TempDir()), "")
	if problems != nil {
		t.Error(problems)
	}
	if diff := cmp.Diff(ParseCmdline(""), c, cmp.AllowUnexported(Config{}, rules[string]{}, rules[softdep]{}, rules[[]string]{})); diff != "" {
		t.Errorf("no files and no command line (-ParseCmdline +ReadConfig):\n%s", diff)
	}
}

// Whatever a configuration says, its readers get nothing that they could trip over.
func FuzzConfig(f *testing.F) {
	f.Add("alias a-[0-9]* b\nalias q b\noptions b p=1 \\\n q=\"2 3\"\ninstall b x; y\nremove b z\nblacklist c\n", "a-1", "b.p=1")
	f.Add("softdep a pre: b post: c\nweakdep a d\ndeny e f*\n# \\\n\nx\\", "a", "hapax.deny=g,h*")
	f.Add("softdep * pre: *\nalias * *\ninstall * *\noptions * *\ndeny *", "*", "module_blacklist=a")
	index := open(f, writeIndex(f, sample))
	f.Fuzz(func(t *testing.T, data, query, cmdline string) {
		c := newConfig()
		c.parse("f", data, func(err error) {
			var bad *ConfigError
			if !errors.As(err, &bad) || bad.Line < 1 || bad.Line > 1+strings.Count(data, "\n") {
				t.Errorf("%q: problem %v", data, err)
			}
		})
		c.parseCmdline(cmdline)
		v := index.With(c)
		for _, name := range append(v.Lookup(query).Names, query, "b") {
			texts := []string{v.Options(name, query), c.Install(name), c.Remove(name)}
			pre, post := c.Softdeps(name)
			if reason, denied := c.Denied(name); denied != (reason != "") {
				t.Errorf("%q: Denied(%q) = %q, %v", data, name, reason, denied)
			}
			if strings.IndexByte(cmdline, 0) < 0 && strings.ContainsAny(strings.Join(texts, ""), "\n\x00") && !strings.Contains(cmdline, "\n") {
				t.Errorf("%q: %q: %q is not one C string", data, name, texts)
			}
			for _, q := range append(append(pre, post...), v.Weakdeps(name)...) {
				if q == "" || strings.ContainsAny(q, " \t\n\x00") {
					t.Errorf("%q: %q: query %q", data, name, q)
				}
			}
			seen := map[string]bool{}
			for _, m := range v.LoadOrder(name) {
				if seen[m.Name] {
					t.Errorf("%q: LoadOrder(%q) has %q twice", data, name, m.Name)
				}
				seen[m.Name] = true
			}
		}
	})
}
