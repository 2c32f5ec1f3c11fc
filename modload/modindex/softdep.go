package modindex

import (
	"errors"
	"io/fs"
	"slices"
)

// A softdep is one line of soft dependencies: what to ask for before and after a module.
type softdep struct{ pre, post []string }

// maxQueries is how many soft dependencies a module may have, and a line of
// them words. No module of the kernel has more than a dozen, and whoever follows them
// asks again and again.
const maxQueries = 256

// add adds the queries of another line, those that are new.
func (d *softdep) add(line softdep) {
	d.pre, d.post = appendSome(d.pre, line.pre), appendSome(d.post, line.post)
}

// appendSome is appendNew up to maxQueries.
func appendSome(list, add []string) []string {
	if len(list) == maxQueries {
		return list
	}
	list = appendNew(list, add)
	return list[:min(len(list), maxQueries)]
}

// softdeps returns the union of all lines that cover the module, each query once, in the order of the lines.
func softdeps(lines *rules[softdep], name string) (pre, post []string) {
	var all softdep
	for line := range lines.about([]byte(name)) {
		all.add(line.value)
	}
	return all.pre, all.post
}

// parseSoftdeps reads the softdep lines of a file in modprobe.d(5) syntax and
// skips every other one.
func parseSoftdeps(data string) *rules[softdep] {
	c := newConfig()
	c.parse("", data, func(error) {})
	return &c.softdeps
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
func (x *Index) readSoftdeps() *rules[softdep] {
	return parseSoftdeps(x.optionalText("modules.softdep"))
}

// Weakdeps returns what modules.weakdep lists for the module: queries for
// modules that it can use if they are there. Nothing loads them for its sake; a
// builder may put them into an image.
func (x *Index) Weakdeps(name string) []string {
	c := newConfig()
	c.parse("", x.optionalText("modules.weakdep"), func(error) {})
	return c.Weakdeps(name)
}

// optionalText returns a file that may be missing. That it is there and cannot be read is damage.
func (x *Index) optionalText(name string) string {
	data, err := x.readText(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		x.note(err)
	}
	return data
}
