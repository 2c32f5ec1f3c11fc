package modindex

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// treesEnv names real module trees: lib/modules/RELEASE folders on which depmod
// has run, separated by colons. The Makefile sets it to those of Debian kernels.
const treesEnv = "HAPAX_TEST_MODULES"

// eachTree runs f for every real module tree.
func eachTree(t *testing.T, f func(t *testing.T, dir string)) {
	t.Helper()
	list := filepath.SplitList(os.Getenv(treesEnv))
	if len(list) == 0 {
		t.Skipf("%s is not set: no real module trees to compare with (make test sets it)", treesEnv)
	}
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
	if _, err := exec.LookPath("modprobe"); err != nil {
		t.Skip("modprobe is not installed (package kmod): nothing to compare with")
	}
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

// resolve returns the names that each of the queries stands for, each once.
// modprobe -a prints the answers one after the other: mark, a name that no
// query stands for, tells them apart.
func (k kmod) resolve(queries []string, mark string) [][]string {
	k.t.Helper()
	const batch = 400
	var answers [][]string
	for len(queries) > 0 {
		n := min(batch, len(queries))
		args := []string{"-a", "-R", "--"}
		for _, q := range queries[:n] {
			args = append(args, q, mark)
		}
		queries = queries[n:]
		var answer []string
		before := len(answers)
		for _, line := range k.run(args...) {
			if line == mark {
				answers = append(answers, answer)
				answer = nil
				continue
			}
			answer = appendNew(answer, []string{line})
		}
		if len(answers) != before+n {
			k.t.Fatalf("modprobe -R: %d answers to %d queries", len(answers)-before, n)
		}
	}
	return answers
}

// depends returns what modprobe --show-depends prints for a module: "builtin NAME"
// or "insmod PATH", each once, the paths relative to the folder.
func (k kmod) depends(name string) []string {
	k.t.Helper()
	var list []string
	for _, line := range k.run("--show-depends", "--", name) {
		words := strings.Fields(line) // options of this machine's kernel command line may follow
		if len(words) < 2 {
			k.t.Fatalf("modprobe --show-depends %s: %q", name, line)
		}
		list = appendNew(list, []string{words[0] + " " + strings.TrimPrefix(words[1], k.dir+"/")})
	}
	return list
}

// depends is what kmod.depends gives, from the index. modprobe takes a query: some
// built-in modules share their name with an alias of others, which comes first.
func depends(x *Index, query string) []string {
	var list []string
	for _, name := range x.Lookup(query).Names {
		for _, m := range x.LoadOrder(name) {
			line := "insmod " + m.Path
			if m.Builtin {
				line = "builtin " + m.Name
			}
			list = appendNew(list, []string{line})
		}
	}
	return list
}
