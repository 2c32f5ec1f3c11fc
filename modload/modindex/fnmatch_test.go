package modindex

import (
	"strings"
	"testing"
)

// The wanted answers are those of glibc 2.36.
var fnmatchCases = []struct {
	pattern, s string
	want       bool
}{
	{"", "", true},
	{"", "a", false},
	{"a", "", false},
	{"abc", "abc", true},
	{"abc", "abcd", false},
	{"ABC", "abc", false},
	{"*", "", true},
	{"*", ".a/b", true},
	{"**", "a", true},
	{"?", "/", true},
	{"?", ".", true},
	{"?", "", false},
	{"a*c", "abbc", true},
	{"a*c", "abcb", false},
	{"*ab*ab", "abab", true},
	{"*ab*ab", "aab", false},
	{"*?", "a", true},
	{"*?", "", false},
	{"a*b?c*d", "axbbycbzcd", true},
	{"a*", "a\n", true},
	{"a", "a\n", false},
	// DMI dates hold slashes.
	{"dmi*:bd01/09/2006*:svnQEMU:*", "dmi:bvnX:bd01/09/2006:br0.0:svnQEMU:pnY:", true},
	{"dmi*:bd*:svnQEMU:*", "dmi:bvnX:bd01/09/2006:br0.0:svnQEMUx:pnY:", false},
	{"usb:v05ACp12[9A]0d*", "usb:v05ACp1290d0110", true},
	{"usb:v05ACp12[9A]0d*", "usb:v05ACp12B0d0110", false},
	// Classes.
	{"[abc]", "b", true},
	{"[abc]", "d", false},
	{"[a-c]", "b", true},
	{"[a-c]", "-", false},
	{"[!a-c]", "b", false},
	{"[!a-c]", "d", true},
	{"[^a-c]", "b", false},
	{"[^a-c]", "^", true},
	{"[a^]", "^", true},
	{"[!]", "!", false},
	{"[!]", "[!]", true},
	{"[]b]", "]", true},
	{"[]b]", "b", true},
	{"[]b]", "a", false},
	{"[!]b]", "]", false},
	{"[!]b]", "a", true},
	{"[a-]", "-", true},
	{"[a-]", "b", false},
	{"[-a]", "-", true},
	{"[z-a]", "m", false},
	{"[z-a]", "z", false},
	{"[+--]", ",", true},
	{"[a-b-d]", "c", false},
	{"[a-b-d]", "-", true},
	{"[[]", "[", true},
	{"[*?]", "*", true},
	{"[*?]", "a", false},
	{"[a]", "", false},
	{"x[0-9]*[a-f]y", "x1zfy", true},
	{"[[:alpha:]]", "a", true},
	{"[[:alpha:]]", "1", false},
	{"[![:alpha:]]", "1", true},
	{"[[:digit:][:upper:]x]", "x", true},
	{"[[:digit:][:upper:]x]", "Q", true},
	{"[[:digit:][:upper:]x]", "q", false},
	{"[[:none:]]", "n", false},
	{"[[:Al:]", ":", true},
	{"[:alpha:]", "p", true},
	{"[:alpha:]", "b", false},
	{"[[=a=]b]", "a", true},
	{"[[=a=]b]", "=", false},
	{"[[.-.]z]", "-", true},
	{"[[.space.]]", " ", false},
	// Not closed: literal.
	{"[", "[", true},
	{"[a", "[a", true},
	{"[a", "a", false},
	{"a[", "a[", true},
	{"*[a", "x[a", true},
	{"[a*", "[abc", true},
	{"[a-", "[a-", false},
	// Escapes.
	{`\*`, "*", true},
	{`\*`, "a", false},
	{`\a`, "a", true},
	{`\\`, `\`, true},
	{`\`, `\`, false},
	{`a\`, "a", false},
	{`a\`, `a\`, false},
	{`*\`, "a", false},
	{`[\]]`, "]", true},
	{`[\a-c]`, "b", true},
	{`[a-\c]`, "b", true},
	{`[\`, `[\`, false},
	{`\[a]`, "[a]", true},
	// Bytes, not runes.
	{"?", "é", false},
	{"??", "é", true},
	{"*\xff", "a\xff", true},
	{"[\x80-\xff]", "\xc3", true},
}

func TestFnmatch(t *testing.T) {
	for _, c := range fnmatchCases {
		if got := Fnmatch(c.pattern, c.s); got != c.want {
			t.Errorf("Fnmatch(%q, %q) = %v, want %v", c.pattern, c.s, got, c.want)
		}
	}
}

func TestCharacterClasses(t *testing.T) {
	// How many of the 256 bytes are in each class of the C locale.
	for class, want := range map[string]int{
		"alnum": 62, "alpha": 52, "blank": 2, "cntrl": 33, "digit": 10, "graph": 94,
		"lower": 26, "print": 95, "punct": 32, "space": 6, "upper": 26, "xdigit": 22,
	} {
		n := 0
		for c := range 256 {
			if Fnmatch("[[:"+class+":]]", string([]byte{byte(c)})) {
				n++
			}
		}
		if n != want {
			t.Errorf("%d bytes are in [:%s:], want %d", n, class, want)
		}
	}
}

// Many stars must not make it slow: a matcher that tries every star again
// would take longer than the test may.
func TestFnmatchManyStars(t *testing.T) {
	if Fnmatch(strings.Repeat("*a", 200)+"b", strings.Repeat("a", 4000)) {
		t.Error("matched without the b")
	}
}

// slowMatch is fnmatch in its simplest form, for patterns without [:class:].
func slowMatch(p, s string) bool {
	switch {
	case p == "":
		return s == ""
	case p[0] == '*':
		return slowMatch(p[1:], s) || s != "" && slowMatch(p, s[1:])
	case s == "":
		return false
	case p[0] == '?':
		return slowMatch(p[1:], s[1:])
	case p[0] == '\\':
		return len(p) > 1 && p[1] == s[0] && slowMatch(p[2:], s[1:])
	case p[0] == '[':
		if set, rest, ok := slowClass(p[1:]); ok {
			return set[s[0]] && slowMatch(rest, s[1:])
		}
	}
	return p[0] == s[0] && slowMatch(p[1:], s[1:])
}

// slowClass turns a class, behind its '[', into a table.
func slowClass(p string) (set [256]bool, rest string, ok bool) {
	not := p != "" && (p[0] == '!' || p[0] == '^')
	if not {
		p = p[1:]
	}
	next := func() (c byte) {
		if p[0] == '\\' && len(p) > 1 {
			p = p[1:]
		}
		c, p = p[0], p[1:]
		return c
	}
	for first := true; p != ""; first = false {
		if p[0] == ']' && !first {
			for c := range set {
				set[c] = set[c] != not
			}
			return set, p[1:], true
		}
		lo := next()
		hi := lo
		if p == "-" {
			return [256]bool{}, "", true // a range without an end covers nothing
		}
		if len(p) > 1 && p[0] == '-' && p[1] != ']' {
			p = p[1:]
			hi = next()
		}
		for c := int(lo); c <= int(hi); c++ {
			set[c] = true
		}
	}
	return set, "", false
}

func FuzzFnmatch(f *testing.F) {
	for _, c := range fnmatchCases {
		f.Add(c.pattern, c.s)
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		named := strings.Contains(pattern, "[:") || strings.Contains(pattern, "[=") || strings.Contains(pattern, "[.")
		if len(pattern) > 40 || len(s) > 40 || strings.Count(pattern, "*") > 4 || named {
			Fnmatch(pattern, s) // must end, that is all that the reference cannot check
			return
		}
		if got, want := Fnmatch(pattern, s), slowMatch(pattern, s); got != want {
			t.Errorf("Fnmatch(%q, %q) = %v, want %v", pattern, s, got, want)
		}
	})
}
