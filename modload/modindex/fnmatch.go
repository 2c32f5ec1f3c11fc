package modindex

import "strings"

// text lets one matcher serve strings and the bytes of a mapped file, without a copy.
type text interface{ ~string | ~[]byte }

// Fnmatch reports whether the shell pattern covers s as a whole, with the
// meaning of fnmatch(3) in glibc without flags and in the C locale, which is
// what libkmod uses: '*' and '?' cover '/' and a leading dot too, both [!x] and
// [^x] negate, []x] holds a bracket, [[:alpha:]] works, a '[' that is never
// closed stands for itself, a backslash quotes the next byte, and one at the
// very end matches nothing. A class as the end of a range, whose meaning POSIX
// leaves open, is the one thing where glibc may differ.
//
// It takes at most len(pattern)*len(s) steps and does not allocate.
func Fnmatch(pattern, s string) bool { return fnmatch(pattern, s) }

func fnmatch[P, S text](p P, s S) bool {
	i, j := 0, 0
	// On a mismatch only the last '*' needs another try: what an earlier one
	// could give up, the later one can take.
	retry, from := -1, 0
	for {
		switch {
		case i < len(p) && p[i] == '*':
			i++
			retry, from = i, j
			continue
		case i == len(p) && j == len(s):
			return true
		case i < len(p) && j < len(s):
			if n, ok := matchOne(p[i:], s[j]); ok {
				i += n
				j++
				continue
			}
		}
		if retry < 0 || from >= len(s) {
			return false
		}
		from++
		i, j = retry, from
	}
}

// matchOne matches c with the first element of p, which is not a '*', and
// returns how many bytes of p that element takes.
func matchOne[P text](p P, c byte) (n int, ok bool) {
	switch p[0] {
	case '?':
		return 1, true
	case '\\':
		return 2, len(p) > 1 && p[1] == c
	case '[':
		if n, ok, closed := matchClass(p, c); closed {
			return n, ok
		}
	}
	return 1, p[0] == c
}

// matchClass matches c with the bracket expression at the start of p and
// returns its length. closed is false when p has no end of it.
func matchClass[P text](p P, c byte) (n int, ok, closed bool) {
	i := 1
	negate := i < len(p) && (p[i] == '!' || p[i] == '^')
	if negate {
		i++
	}
	in := false
	for start := i; i < len(p); {
		if p[i] == ']' && i > start {
			return i + 1, in != negate, true
		}
		if n, member, special := matchSpecial(p[i:], c); special {
			if n == 0 {
				return len(p), false, true // ill-formed: matches nothing
			}
			in = in || member
			i += n
			continue
		}
		var lo, hi byte
		lo, i = classByte(p, i)
		hi = lo
		if i < len(p) && p[i] == '-' && (i+1 == len(p) || p[i+1] != ']') {
			if i+1 == len(p) {
				return len(p), false, true // a range without an end matches nothing
			}
			hi, i = classByte(p, i+1)
		}
		in = in || lo <= c && c <= hi
	}
	return 0, false, false
}

// classByte returns the byte at p[i], or the one that a backslash there quotes, and the index behind it.
func classByte[P text](p P, i int) (c byte, next int) {
	if p[i] == '\\' && i+1 < len(p) {
		i++
	}
	return p[i], i + 1
}

// matchSpecial handles [:class:], [=c=] and [.c.] at the start of p, inside a
// bracket expression. n is 0 when it makes the whole pattern ill-formed.
func matchSpecial[P text](p P, c byte) (n int, member, special bool) {
	if len(p) < 2 || p[0] != '[' {
		return 0, false, false
	}
	switch kind := p[1]; kind {
	case ':':
		end := 2
		for end < len(p) && 'a' <= p[end] && p[end] < 'z' {
			end++
		}
		if end+1 >= len(p) || p[end] != ':' || p[end+1] != ']' {
			return 0, false, false // just a '[' among others
		}
		member, known := inClass(string(p[2:end]), c)
		if !known {
			return 0, false, true
		}
		return end + 2, member, true
	case '=', '.':
		if len(p) < 5 || p[3] != kind || p[4] != ']' {
			return 0, false, kind == '.'
		}
		return 5, p[2] == c, true
	}
	return 0, false, false
}

// inClass reports whether c is in one of the character classes of the C locale.
func inClass(class string, c byte) (member, known bool) {
	const punct = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
	digit := '0' <= c && c <= '9'
	lower := 'a' <= c && c <= 'z'
	upper := 'A' <= c && c <= 'Z'
	switch class {
	case "alnum":
		return digit || lower || upper, true
	case "alpha":
		return lower || upper, true
	case "blank":
		return c == ' ' || c == '\t', true
	case "cntrl":
		return c < ' ' || c == 0x7f, true
	case "digit":
		return digit, true
	case "graph":
		return ' ' < c && c < 0x7f, true
	case "lower":
		return lower, true
	case "print":
		return ' ' <= c && c < 0x7f, true
	case "punct":
		return strings.IndexByte(punct, c) >= 0, true
	case "space":
		return c == ' ' || '\t' <= c && c <= '\r', true
	case "upper":
		return upper, true
	case "xdigit":
		return digit || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F', true
	}
	return false, false
}
