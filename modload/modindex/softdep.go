package modindex

import (
	"errors"
	"io/fs"
	"iter"
	"slices"
	"strings"
)

// A softdep is one line of modules.softdep: what to ask for before and after a module.
type softdep struct {
	module    string // normalised
	glob      bool   // module is a pattern
	pre, post []string
}

// parseSoftdeps reads the softdep lines of a file in modprobe.d(5) syntax and
// skips every other one. Words in front of "pre:" and "post:" mean nothing;
// some modules of the kernel have such lines.
func parseSoftdeps(data string) []softdep {
	var deps []softdep
	for line := range configLines(data) {
		words := strings.FieldsFunc(line, isBlank)
		if len(words) < 3 || words[0] != "softdep" || !balanced(words[1]) {
			continue
		}
		d := softdep{module: Normalize(words[1]), glob: isGlob(words[1])}
		var list *[]string
		for _, w := range words[2:] {
			switch {
			case w == "pre:":
				list = &d.pre
			case w == "post:":
				list = &d.post
			case list != nil:
				*list = append(*list, w)
			}
		}
		if list != nil {
			deps = append(deps, d)
		}
	}
	return deps
}

// isGlob reports whether s, as a pattern, may cover anything but itself.
func isGlob(s string) bool { return strings.ContainsAny(s, `*?[\`) }

func isBlank(r rune) bool { return r == ' ' || r == '\t' }

// configLines yields the lines of a modprobe.d(5) file that are neither empty
// nor comments. A backslash at the end of a line joins it with the next one.
func configLines(data string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for data != "" {
			var line string
			line, data, _ = strings.Cut(data, "\n")
			if strings.HasSuffix(line, `\`) && data != "" {
				line, data = joinLines(line, data)
			}
			if line != "" && line[0] != '#' && !yield(line) {
				return
			}
		}
	}
}

// joinLines appends to line, which ends in a backslash, what of data continues it.
func joinLines(line, data string) (joined, rest string) {
	var b strings.Builder
	for strings.HasSuffix(line, `\`) && data != "" {
		b.WriteString(line[:len(line)-1])
		line, data, _ = strings.Cut(data, "\n")
	}
	b.WriteString(line)
	return b.String(), data
}

// softdeps returns the union of all lines that cover the module, each query once, in the order of the file.
func softdeps(all []softdep, name string) (pre, post []string) {
	for _, d := range all {
		if d.module != name && !(d.glob && Fnmatch(d.module, name)) {
			continue
		}
		pre = appendNew(pre, d.pre)
		post = appendNew(post, d.post)
	}
	return pre, post
}

// appendNew appends those of add that list does not have yet.
func appendNew(list, add []string) []string {
	for _, s := range add {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// readSoftdeps reads modules.softdep, which has no other form. It is small: a
// line for each that the modules declare.
func (x *Index) readSoftdeps() []softdep { return parseSoftdeps(x.optionalText("modules.softdep")) }

// Weakdeps returns what modules.weakdep lists for the module: queries for
// modules that it can use if they are there. Nothing loads them for its sake; a
// builder may put them into an image.
func (x *Index) Weakdeps(name string) []string {
	name = Normalize(name)
	var queries []string
	for line := range configLines(x.optionalText("modules.weakdep")) {
		words := strings.FieldsFunc(line, isBlank)
		if len(words) > 2 && words[0] == "weakdep" && balanced(words[1]) && Fnmatch(Normalize(words[1]), name) {
			queries = appendNew(queries, words[2:])
		}
	}
	return queries
}

// optionalText returns a file that may be missing. That it is there and cannot be read is damage.
func (x *Index) optionalText(name string) string {
	data, err := x.readText(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		x.note(err)
	}
	return data
}
