package applet

import (
	"errors"
	"strconv"
)

var errJSON = errors.New("the engine's answer is damaged")

// maxNesting is how deep flatten follows a document. The engine's have 4 levels.
const maxNesting = 32

// flatten calls each with every value of a JSON document, in its order, and with
// the path to it: "counters.live". It takes what tojson writes, in a
// tenth of the code of its decoder.
func flatten(doc []byte, each func(path, value string)) error {
	f := flattener{doc, each}
	if !f.value("", maxNesting) {
		return errJSON
	}
	return nil
}

type flattener struct {
	rest []byte
	each func(path, value string)
}

// take skips white space, and then c if it follows.
func (f *flattener) take(c byte) bool {
	for len(f.rest) > 0 && (f.rest[0] == ' ' || f.rest[0] == '\n' || f.rest[0] == '\t') {
		f.rest = f.rest[1:]
	}
	if len(f.rest) == 0 || f.rest[0] != c {
		return false
	}
	f.rest = f.rest[1:]
	return true
}

// value reads one value.
func (f *flattener) value(path string, depth int) bool {
	switch {
	case depth == 0:
		return false
	case f.take('{'):
		return f.list('}', func(int) bool {
			key, ok := f.text()
			return ok && f.take(':') && f.value(join(path, key), depth-1)
		})
	case f.take('['):
		return f.list(']', func(i int) bool { return f.value(join(path, strconv.Itoa(i)), depth-1) })
	}
	word, ok := f.text()
	if !ok {
		n := 0
		for n < len(f.rest) && f.rest[n] != ',' && f.rest[n] != '}' && f.rest[n] != ']' && f.rest[n] != '\n' {
			n++
		}
		word, f.rest, ok = string(f.rest[:n]), f.rest[n:], n > 0
	}
	if ok {
		f.each(path, word)
	}
	return ok
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// list reads what is between brackets, of which the first is taken already.
func (f *flattener) list(end byte, item func(i int) bool) bool {
	if f.take(end) {
		return true
	}
	for i := 0; ; i++ {
		if !item(i) {
			return false
		}
		if !f.take(',') {
			return f.take(end)
		}
	}
}

// text reads a string. Escapes are as in Go, but for the rare ones above the
// basic plane and for "\/", which encoding/json does not write.
func (f *flattener) text() (s string, ok bool) {
	f.take(0) // white space
	if len(f.rest) == 0 || f.rest[0] != '"' {
		return "", false
	}
	for n := 1; n < len(f.rest); n++ {
		switch f.rest[n] {
		case '\\':
			n++
		case '"':
			s, err := strconv.Unquote(string(f.rest[:n+1]))
			f.rest = f.rest[n+1:]
			return s, err == nil
		}
	}
	return "", false
}
