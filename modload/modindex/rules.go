package modindex

import "iter"

// rules are the lines of one keyword of modprobe.d(5), found by the module or
// alias that they are about. A line about one name costs a map access; only
// those whose name is a pattern are tried one by one. The zero rules are empty.
type rules[T any] struct {
	exact map[string][]rule[T]
	globs []rule[T]
}

// A rule is one line.
type rule[T any] struct {
	place   int    // among all lines of the configuration
	pattern string // normalised
	value   T
}

// add files a line. Places ascend from call to call.
func (r *rules[T]) add(place int, pattern string, value T) {
	line := rule[T]{place, pattern, value}
	if isGlob(pattern) {
		r.globs = append(r.globs, line)
		return
	}
	if r.exact == nil {
		r.exact = map[string][]rule[T]{}
	}
	r.exact[pattern] = append(r.exact[pattern], line)
}

// about yields the lines that cover name, in their order.
func (r *rules[T]) about(name []byte) iter.Seq[rule[T]] {
	return func(yield func(rule[T]) bool) {
		exact, globs := r.exact[string(name)], r.globs
		for len(exact) > 0 || len(globs) > 0 {
			if len(globs) == 0 || len(exact) > 0 && exact[0].place < globs[0].place {
				if !yield(exact[0]) {
					return
				}
				exact = exact[1:]
				continue
			}
			if fnmatch(globs[0].pattern, name) && !yield(globs[0]) {
				return
			}
			globs = globs[1:]
		}
	}
}

// first returns the first line that covers name.
func (r *rules[T]) first(name []byte) (value T, ok bool) {
	for line := range r.about(name) {
		return line.value, true
	}
	return value, false
}

// named returns the first line about exactly that name.
func (r *rules[T]) named(name []byte) (value T, ok bool) {
	if lines := r.exact[string(name)]; len(lines) > 0 {
		return lines[0].value, true
	}
	return value, false
}
