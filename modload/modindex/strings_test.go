package modindex

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// newRand returns a source of the same numbers in every run.
func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

// An instance makes strings from a pattern.
type instance struct{ rng *rand.Rand }

// fill returns a string that the pattern covers, with something else for each wildcard every time.
func (g instance) fill(pattern string) string {
	fillers := []string{"", "0", "A/b", "x-1", "_", "00001AF4", ".a:b,c"}
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*':
			b.WriteString(fillers[g.rng.IntN(len(fillers))])
		case '?':
			b.WriteByte("az09_/"[g.rng.IntN(6)])
		case '[':
			end := i + strings.IndexByte(pattern[i:], ']')
			b.WriteByte(g.member(pattern[i+1 : end]))
			i = end
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// member returns a byte of a class without negation, such as "0-9A".
func (g instance) member(class string) byte {
	var set []byte
	for i := 0; i < len(class); i++ {
		if i+2 < len(class) && class[i+1] == '-' {
			for c := class[i]; c <= class[i+2]; c++ {
				set = append(set, c)
			}
			i += 2
			continue
		}
		set = append(set, class[i])
	}
	return set[g.rng.IntN(len(set))]
}

// miss returns a string that is one byte off what the pattern covers: another
// byte, one too few, one too many, or nothing where a wildcard wants a byte. ok
// is false for a pattern that covers nearly everything.
func (g instance) miss(pattern string) (s string, ok bool) {
	for range 50 {
		s := g.fill(pattern)
		at := g.rng.IntN(len(s) + 1)
		switch tail := s[min(at+1, len(s)):]; g.rng.IntN(4) {
		case 0:
			s = s[:at] + tail
		case 1:
			s = s[:at] + string("Zz9_*x"[g.rng.IntN(6)]) + s[at:]
		default:
			s = s[:at] + string("Zz9_*x"[g.rng.IntN(6)]) + tail
		}
		if !covers(pattern, Normalize(s)) && s != "" {
			return s, true
		}
	}
	return "", false
}

// patternQueries returns, for every alias pattern of the index, three strings that it covers and three that it just misses.
func patternQueries(t *testing.T, x *Index, rng *rand.Rand) []string {
	g := instance{rng}
	var queries []string
	broad := 0
	for _, p := range []*trie{&x.aliases, &x.builtinAliases} {
		for _, e := range p.entries() {
			for range 3 {
				s := g.fill(e.key)
				if !covers(e.key, Normalize(s)) {
					t.Fatalf("%q does not cover %q: not a test", e.key, s)
				}
				queries = append(queries, s)
				if s, ok := g.miss(e.key); ok {
					queries = append(queries, s)
				} else {
					broad++
				}
			}
		}
	}
	if broad > len(queries)/1000 {
		t.Errorf("%d of %d strings that just miss their pattern cannot be made: not a test", broad, len(queries))
	}
	// A query that modprobe refuses, see docs/kmod.md, has no answer to compare.
	return slices.DeleteFunc(queries, func(q string) bool { return !balanced(q) })
}
