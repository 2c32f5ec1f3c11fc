package modindex

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A scenario is a configuration about the modules of a tree, and what to ask under it.
type scenario struct {
	lines   strings.Builder
	queries []string
	rng     *rand.Rand
	soft    map[string]bool // modules with a softdep line
}

// newScenario writes lines with each of the keywords: about every module of x
// those that one chance gave it, or none. Aliases and patterns are few, for
// modprobe tries each of them for every query.
// modprobe takes the first softdep line of a module only, so none gets a second
// one, and those of the tree are merged.
func newScenario(x *Index, rng *rand.Rand) *scenario {
	const patterns, aliases = 40, 200 // modules that get such lines
	s := &scenario{rng: rng, soft: map[string]bool{}}
	names := x.byPriority()
	for _, name := range names {
		for range x.softdeps().about([]byte(name)) {
			s.soft[name] = true
		}
	}
	rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for i, m := range names {
		s.queries = append(s.queries, m, strings.ReplaceAll(m, "_", "-"))
		pick := func() string { return names[rng.IntN(len(names))] }
		switch {
		case i < patterns:
			s.pattern(i, m, pick(), pick())
		case i < aliases:
			s.alias(m, pick(), pick())
		default:
			s.exact(m, pick(), pick())
		}
	}
	return s
}

func (s *scenario) line(format string, args ...any) { fmt.Fprintf(&s.lines, format+"\n", args...) }

// pattern writes lines that hold patterns.
func (s *scenario) pattern(i int, m, other, third string) {
	switch s.rng.IntN(3) {
	case 0:
		s.line("alias cfg-%d-* %s\nalias cfg-%[1]d-x %[3]s\noptions cfg-%[1]d-x by=alias\noptions cfg-%[1]d-* by=pattern", i, m, other)
		s.queries = append(s.queries, fmt.Sprintf("cfg-%d-x", i), fmt.Sprintf("cfg-%d-y", i))
	case 1:
		s.line("alias %s? %s\ninstall %s* run %s\nunknown %s", m[:len(m)-1], other, other[:len(other)-1], m, m)
		s.queries = append(s.queries, m[:len(m)-1]+"x")
	case 2:
		s.softdep("softdep %s pre: soft-%d-x post: %s\nalias soft-%[2]d-* %s", m, i, other, third)
	}
}

// softdep writes lines about a module that has no softdep line yet.
func (s *scenario) softdep(format, m string, args ...any) {
	if !s.soft[m] {
		s.soft[m] = true
		s.line(format, append([]any{m}, args...)...)
	}
}

// alias writes lines with aliases that are no patterns.
func (s *scenario) alias(m, other, third string) {
	if s.rng.IntN(2) == 0 {
		s.line("alias %s %s", m, other)
		return
	}
	s.line("alias own-%s %s\nalias own-%[1]s %[3]s\noptions own-%[1]s by=alias\nblacklist %[3]s", m, other, third)
	s.queries = append(s.queries, "own_"+m)
}

// exact writes lines about the module alone, or none.
func (s *scenario) exact(m, other, third string) {
	switch s.rng.IntN(12) {
	case 0:
		s.line("options %s p=1\toff q=\"a  b\"\noptions %s p=2", strings.ReplaceAll(m, "_", "-"), m)
	case 1:
		s.line("install %s run %s $CMDLINE_OPTS", m, other)
	case 2:
		s.line("install cmd-%s run\nremove rm-%[1]s run\nblacklist %[1]s", m)
		s.queries = append(s.queries, "cmd_"+m, "rm_"+m)
	case 3:
		s.softdep("softdep %s pre: %s none post: %s", m, other, third)
	case 4:
		s.line("deny %s\nweakdep %[1]s %s\noptions %[1]s d=1", m, other)
	}
}

// eachScenario runs f for configurations about every tree.
func eachScenario(t *testing.T, f func(t *testing.T, s *scenario, v *View, k kmod)) {
	eachTree(t, func(t *testing.T, dir string) {
		t.Parallel()
		x := open(t, dir)
		_, merged := rewriteSoftdeps(t, dir)
		theirs := linkTree(t, dir, merged)
		for round := range rounds(t) {
			k := newKmod(t, theirs)
			s := newScenario(x, newRand(uint64(7+round)))
			if err := os.WriteFile(filepath.Join(k.conf, "test.conf"), []byte(s.lines.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			c, _ := ReadConfig([]string{k.conf}, machineCmdline(t))
			f(t, s, x.With(c), k)
		}
	})
}

// With a configuration of each keyword, every module in both spellings, what the
// lines name, and for every pattern three strings that it covers and three that
// it just misses, stand for what modprobe -R says.
func TestViewLookupLikeModprobe(t *testing.T) {
	eachScenario(t, func(t *testing.T, s *scenario, v *View, k kmod) {
		compareLookups(t, v, k, append(s.queries, patternQueries(t, v.x, s.rng)...))
	})
}

// And what is done for every module and all that the lines name, with which
// parameters, is what modprobe --show-depends says.
func TestViewLoadOrderLikeModprobe(t *testing.T) {
	eachScenario(t, func(t *testing.T, s *scenario, v *View, k kmod) {
		kinds := map[string]int{}
		mark := unasked(t, v, v.x.builtins.entries())
		for i, want := range k.depends(s.queries, mark) {
			query := s.queries[i]
			if got := v.shows(query); !slices.Equal(want, got) {
				t.Fatalf("%q (-modprobe +LoadOrder):\n%s", query, cmp.Diff(want, got))
			}
			for _, line := range want {
				keyword, _, _ := strings.Cut(line, " ")
				kinds[keyword]++
			}
		}
		if kinds["insmod"] == 0 || kinds["install"] == 0 || kinds["builtin"] == 0 {
			t.Errorf("%v: not a test", kinds)
		}
		t.Logf("%d queries, lines %v", len(s.queries), kinds)
	})
}
