package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/modload/modindex"
	"hapax/tests/need"
)

// kmodTree returns a lib/modules/RELEASE folder with what dir has, through links, but of the softdep lines only the
// first one of each module, which is all that modprobe sees.
func kmodTree(t *testing.T, dir string) string {
	t.Helper()
	tree := filepath.Join(t.TempDir(), "lib/modules", filepath.Base(dir))
	if err := os.MkdirAll(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "modules.softdep" {
			continue
		}
		if err := os.Symlink(filepath.Join(dir, e.Name()), filepath.Join(tree, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	softdeps, err := os.ReadFile(filepath.Join(dir, "modules.softdep"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	first := ""
	for line := range strings.Lines(string(softdeps)) {
		if words := strings.Fields(line); len(words) > 1 && !seen[words[1]] {
			seen[words[1]] = true
			first += line
		}
	}
	if err := os.WriteFile(filepath.Join(tree, "modules.softdep"), []byte(first), 0o644); err != nil {
		t.Fatal(err)
	}
	return tree
}

// sampleQueries returns 300 strings that aliases cover, 200 names of modules, in both spellings, and a few that nothing
// knows, the same ones in every run.
func sampleQueries(t *testing.T, tree string) []string {
	t.Helper()
	aliases, err := os.ReadFile(filepath.Join(tree, "modules.alias"))
	if err != nil {
		t.Fatal(err)
	}
	index, err := modindex.Open(tree)
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	var queries []string
	for line := range strings.Lines(string(aliases)) {
		// An alias whose class of characters would have to be filled in is left to the tests of modindex.
		if words := strings.Fields(line); len(words) == 3 && words[0] == "alias" && !strings.ContainsAny(words[1], "[]") {
			queries = append(queries, strings.ReplaceAll(words[1], "*", "0"))
		}
	}
	var names []string
	for m := range index.All() {
		names = append(names, m.Name, strings.ReplaceAll(m.Name, "_", "-"))
	}
	rng.Shuffle(len(queries), func(i, j int) { queries[i], queries[j] = queries[j], queries[i] })
	rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return slices.Concat(queries[:300], names[:200], []string{"no-such-module", "loop:", "net-pf-", "usb:v0"})
}

// What resolve prints, with and without --depends and a configuration, is what modprobe prints, on the trees that
// HAPAX_TEST_MODULES names. Each query is followed by a mark, so that both programs answer hundreds at once.
func TestResolveLikeModprobe(t *testing.T) {
	trees := need.Trees(t)
	for _, dir := range trees {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			tree := kmodTree(t, dir)
			queries := sampleQueries(t, tree)
			empty, conf := t.TempDir(), t.TempDir()
			if err := os.WriteFile(filepath.Join(conf, "a.conf"), []byte(someConfig(queries)), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, config := range []string{empty, conf} {
				compareResolve(t, tree, config, queries, nil, []string{"--resolve-alias"})
				compareResolve(t, tree, config, queries, []string{"--depends"}, []string{"--show-depends"})
			}
		})
	}
}

// someConfig returns modprobe.d(5) lines about some of the queries.
func someConfig(queries []string) string {
	var b strings.Builder
	for i, q := range queries {
		switch next := queries[(i+1)%len(queries)]; i % 10 {
		case 0:
			fmt.Fprintf(&b, "options %s p=%d q=\"a b\"\n", q, i)
		case 1:
			fmt.Fprintf(&b, "blacklist %s\n", q)
		case 2:
			fmt.Fprintf(&b, "install %s run %d\n", q, i)
		case 3:
			if !strings.Contains(next, ":") {
				fmt.Fprintf(&b, "alias %s loop\n", next)
			}
		}
	}
	return b.String()
}

// compareResolve holds the output of resolve against that of modprobe.
func compareResolve(t *testing.T, tree, config string, queries, ours, theirs []string) {
	t.Helper()
	const mark = "hapax_mark" // a name that only an install line knows
	file := filepath.Join(config, "mark.conf")
	if err := os.WriteFile(file, []byte("install "+mark+" mark\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var marked []string
	for _, q := range queries {
		marked = append(marked, q, mark)
	}
	root := strings.TrimSuffix(filepath.Dir(tree), "/lib/modules")
	args := slices.Concat([]string{"-C", config, "-d", root, "-S", filepath.Base(tree), "-a"}, theirs, []string{"--"}, marked)
	out, err := exec.CommandContext(t.Context(), "modprobe", args...).Output()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err) // what it does not know is a part of the comparison
	}
	code, stdout, stderr := hapax(t, slices.Concat([]string{"resolve", "--modules-dir", tree, "--config-dir", config}, ours, marked)...)
	want, got := answers(string(out), mark), answers(stdout, mark)
	if len(want) != len(queries) || len(got) != len(queries) {
		t.Fatalf("%q: %d answers of modprobe, %d of hapax to %d queries: %.200q", ours, len(want), len(got), len(queries), stderr)
	}
	known := 0
	for i, q := range queries {
		if diff := cmp.Diff(want[i], got[i]); diff != "" {
			t.Errorf("%q %s (-modprobe +hapax):\n%s", ours, q, diff)
		}
		known += min(1, len(got[i]))
	}
	if known < len(queries)/2 || known == len(queries) || code != exitFailed {
		t.Errorf("%q: %d of %d queries have an answer, exit code %d: not a test", ours, known, len(queries), code)
	}
}

// answers splits the output at the lines of the mark. A line that modprobe repeats in an answer is there once, and the
// blanks that it puts behind a line are not.
func answers(out, mark string) [][]string {
	all := [][]string{}
	var answer []string
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, " \n")
		switch {
		case line == mark || line == "install mark":
			all = append(all, answer)
			answer = nil
		case !slices.Contains(answer, line):
			answer = append(answer, line)
		}
	}
	return all
}
