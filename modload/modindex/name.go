package modindex

import "strings"

// maxQuery is the longest query, pattern or path that is looked at: PATH_MAX, as in libkmod.
const maxQuery = 4096

// Normalize returns name with '-' replaced by '_', the form under which the
// kernel knows a module and depmod stores an alias. Inside a bracket class, as
// in "d010[0-9]", nothing is replaced; a bracket without its partner is an
// ordinary byte. Normalize is idempotent and returns name itself, without an
// allocation, when there is nothing to replace.
func Normalize(name string) string {
	if nextDash(name) < 0 {
		return name
	}
	buf := []byte(name)
	underscore(buf)
	return string(buf)
}

// underscore is Normalize in place.
func underscore(s []byte) {
	for i := nextDash(s); i >= 0; i = nextDash(s) {
		s[i] = '_'
		s = s[i+1:]
	}
}

// nextDash returns the index of the first '-' of s outside a bracket class, or -1.
func nextDash[T text](s T) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '-':
			return i
		case '[':
			end := i + 1
			for end < len(s) && s[end] != ']' {
				end++
			}
			if end < len(s) {
				i = end
			}
		}
	}
	return -1
}

// balanced reports whether depmod accepts the pattern: each '[' has its ']'
// and each ']' its '['. It drops the other ones with a warning.
func balanced(pattern string) bool {
	for {
		i := strings.IndexAny(pattern, "[]")
		if i < 0 {
			return true
		}
		if pattern[i] == ']' {
			return false
		}
		n := strings.IndexByte(pattern[i:], ']')
		if n < 0 {
			return false
		}
		pattern = pattern[i+n+1:]
	}
}

// NameOf returns the name of the module in a file: the last element of the
// path up to its first dot, with every '-' replaced.
func NameOf(path string) string {
	base := path[strings.LastIndexByte(path, '/')+1:]
	base, _, _ = strings.Cut(base, ".")
	return strings.ReplaceAll(base, "-", "_")
}
