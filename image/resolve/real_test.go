package resolve

import (
	"bufio"
	"bytes"
	"maps"
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

// TestRealTrees compares the closure of the universal set with what modprobe itself says, on the trees that
// HAPAX_TEST_MODULES names: lib/modules/RELEASE folders, separated by colons.
func TestRealTrees(t *testing.T) {
	trees := need.Trees(t)
	for _, dir := range trees {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			x, err := modindex.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			rules, err := Universal()
			if err != nil {
				t.Fatal(err)
			}
			modules, err := Select(x, rules)
			if err != nil {
				t.Fatal(err)
			}
			got := sortedNames(modules)
			if len(got) < 100 {
				t.Errorf("only %d modules in the universal set: %v", len(got), got)
			}
			// libkmod honours the first softdep line of a module only, hapax all of them, so modprobe is asked for
			// the targets of all lines.
			seeds := slices.Concat(requested(t, x, rules, got), softTargets(t, x, got))
			if diff := cmp.Diff(modprobeClosure(t, dir, seeds), got); diff != "" {
				t.Errorf("closure (-modprobe +hapax):\n%s", diff)
			}
		})
	}
}

// requested returns the modules that rules ask for themselves, but for those that a ban has kept out of selected.
func requested(t *testing.T, x *modindex.Index, rules []Rule, selected []string) []string {
	t.Helper()
	s := &selection{index: x, view: x.With(nil), all: slices.Collect(x.All()), wanted: map[string]want{}, banned: map[string]bool{}}
	for _, rule := range rules {
		if err := s.apply(rule); err != nil {
			t.Fatal(err)
		}
	}
	return slices.DeleteFunc(slices.Collect(maps.Keys(s.wanted)), func(name string) bool {
		return !slices.Contains(selected, name)
	})
}

// softTargets returns what the lines of modules.softdep wish for together with the selected modules, if it exists.
func softTargets(t *testing.T, x *modindex.Index, selected []string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(x.Dir(), "modules.softdep"))
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "softdep" || !slices.Contains(selected, modindex.Normalize(words[1])) {
			continue
		}
		for _, word := range words[2:] {
			if len(x.Lookup(word).Names) > 0 && !strings.HasSuffix(word, ":") {
				targets = append(targets, word)
			}
		}
	}
	return targets
}

// modprobeClosure returns the names of all modules that `modprobe --show-depends` prints for names, sorted.
func modprobeClosure(t *testing.T, dir string, names []string) []string {
	t.Helper()
	base := strings.TrimSuffix(filepath.Dir(dir), "/lib/modules")
	if base == filepath.Dir(dir) {
		t.Fatalf("%s is not below a lib/modules folder", dir)
	}
	args := []string{"--dirname", base, "--set-version", filepath.Base(dir), "--show-depends", "--all"}
	out, err := exec.CommandContext(t.Context(), "modprobe", append(args, names...)...).Output()
	if err != nil {
		t.Fatalf("modprobe --show-depends: %v", err)
	}
	found := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) >= 2 && words[0] == "insmod" {
			name, _, _ := strings.Cut(filepath.Base(words[1]), ".")
			found[modindex.Normalize(name)] = true
		}
	}
	var sorted []string
	for name := range found {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	return sorted
}
