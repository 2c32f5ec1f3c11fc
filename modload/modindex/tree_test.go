package modindex

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"hapax/tests/need"
)

// treesEnv names real module trees: lib/modules/RELEASE folders on which depmod
// has run, separated by colons. The Makefile sets it to those of Debian kernels.
const treesEnv = "HAPAX_TEST_MODULES"

// roundsEnv says how often the comparisons with random strings, configurations
// and sets of modules are repeated, each time with others; once if it is not
// set. make differential sets it.
const roundsEnv = "HAPAX_ROUNDS"

// rounds returns what roundsEnv says.
func rounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv(roundsEnv)
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: want a number of rounds", roundsEnv, text)
	}
	return n
}

// eachTree runs f for every real module tree.
func eachTree(t *testing.T, f func(t *testing.T, dir string)) {
	t.Helper()
	list := need.Trees(t)
	for _, dir := range list {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			if _, err := os.Stat(filepath.Join(dir, "modules.dep.bin")); err != nil {
				t.Fatalf("%s: %v; run depmod on it", treesEnv, err)
			}
			f(t, dir)
		})
	}
}

// open opens an index that must be sound, before and after the test.
func open(t testing.TB, dir string) *Index {
	t.Helper()
	x, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Err(); err != nil {
			t.Error(err)
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// writeIndex makes a lib/modules/test folder with the given files and returns it.
func writeIndex(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "lib", "modules", "test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// readIndex returns the contents of those of the files that dir has.
func readIndex(t testing.TB, dir string, names ...string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(data)
	}
	return files
}

var (
	binFiles = []string{"modules.dep.bin", "modules.alias.bin", "modules.symbols.bin", "modules.builtin.bin", "modules.builtin.alias.bin"}
	twins    = []string{"modules.dep", "modules.alias", "modules.symbols", "modules.builtin", "modules.builtin.modinfo", "modules.order"}
)

// A kmod is Debian's modprobe(8), asked about one lib/modules/RELEASE folder. The
// configuration of the machine does not reach it.
type kmod struct {
	t    *testing.T
	dir  string
	conf string
}

func newKmod(t *testing.T, dir string) kmod {
	t.Helper()
	need.Tools(t, "modprobe")
	return kmod{t, dir, t.TempDir()}
}

// run returns the lines that modprobe prints. A query that it does not know is
// part of the comparison, so its exit status means nothing here.
func (k kmod) run(args ...string) []string {
	root := strings.TrimSuffix(filepath.Dir(k.dir), "/lib/modules")
	cmd := exec.Command("modprobe", append([]string{"-C", k.conf, "-d", root, "-S", filepath.Base(k.dir)}, args...)...)
	out, err := cmd.Output()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		k.t.Fatal(err)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}

// ask returns what modprobe -a prints about each of the queries, which is one
// answer after the other: the line about mark, a query that no other one leads
// to, tells them apart. One process answers thousands.
func (k kmod) ask(queries []string, mark, line string, option string) [][]string {
	k.t.Helper()
	const room = 1 << 20 // for arguments, of the 2 MiB that exec(2) takes
	var answers [][]string
	for len(queries) > 0 {
		args := []string{"-a", option, "--"}
		n, size := 0, 0
		for ; n < len(queries) && size < room; n++ {
			args = append(args, queries[n], mark)
			size += len(queries[n]) + len(mark) + 2 + 16 // with their NULs and pointers
		}
		queries = queries[n:]
		var answer []string
		before := len(answers)
		for _, l := range k.run(args...) {
			if l == line {
				answers = append(answers, answer)
				answer = nil
				continue
			}
			answer = append(answer, l)
		}
		if len(answers) != before+n {
			k.t.Fatalf("modprobe %s: %d answers to %d queries", option, len(answers)-before, n)
		}
	}
	return answers
}

// resolve returns the names that each of the queries stands for, each once.
func (k kmod) resolve(queries []string, mark string) [][]string {
	k.t.Helper()
	answers := k.ask(queries, mark, mark, "-R")
	for i, names := range answers {
		answers[i] = appendNew(nil, names)
	}
	return answers
}

// depends returns what modprobe --show-depends prints for each of the queries:
// "builtin NAME", "insmod PATH PARAMETERS" and "install COMMAND PARAMETERS",
// each line once, the paths relative to the folder. A file that comes up again
// with the parameters of an alias has them from the start, as docs/kmod.md
// says.
func (k kmod) depends(queries []string, mark string) [][]string {
	k.t.Helper()
	answers := k.ask(queries, mark, "builtin "+mark, "--show-depends")
	for i, lines := range answers {
		places := map[string]int{}
		answers[i] = nil
		for _, line := range lines {
			keyword, rest, _ := strings.Cut(line, " ")
			rest = strings.TrimSpace(strings.TrimPrefix(rest, k.dir+"/"))
			line, what := keyword+" "+rest, keyword+" "+rest
			if keyword == "insmod" {
				what, _, _ = strings.Cut(rest, " ")
			}
			switch place, again := places[what]; {
			case !again:
				places[what] = len(answers[i])
				answers[i] = append(answers[i], line)
			case len(line) > len(answers[i][place]):
				answers[i][place] = line // the alias adds parameters
			}
		}
	}
	return answers
}

// shows is what kmod.depends gives for one query, from the View.
func (v *View) shows(query string) (lines []string) {
	hits := v.Lookup(query)
	for _, name := range hits.Names {
		if !hits.ByAlias || !v.c.Blacklisted(name) {
			lines = appendNew(lines, v.actions(name, query))
		}
	}
	return lines
}

// actions returns the lines of shows for one module that the query stands for.
func (v *View) actions(name, query string) (lines []string) {
	for _, m := range v.LoadOrderFor(name, query) {
		options := v.Options(m.Name, "")
		if m.Name == name {
			options = v.Options(name, query)
		}
		switch {
		case m.Builtin:
			lines = append(lines, "builtin "+m.Name)
		case m.Install != "":
			lines = append(lines, strings.TrimSpace("install "+m.Install+" "+options))
		case m.Path != "":
			lines = append(lines, strings.TrimSpace("insmod "+m.Path+" "+options))
		}
	}
	return lines
}

// machine returns the Index as the kernel command line of this machine, which
// modprobe reads whatever else it is told, lets it appear.
func machine(t *testing.T, x *Index) *View {
	t.Helper()
	return x.With(ParseCmdline(machineCmdline(t)))
}
