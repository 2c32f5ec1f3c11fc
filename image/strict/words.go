package strict

import (
	"bytes"
	"encoding"
	"iter"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// A wrongWord is a string that its type refuses.
type wrongWord struct {
	key  []string
	word string
	err  error
}

// wrongWords returns the strings in v whose types have an UnmarshalText that refuses them. The decoder calls that method for
// every other kind of type, but not for those that are strings themselves.
func wrongWords(v reflect.Value, key []string) []wrongWord {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return wrongWords(v.Elem(), key)
		}
	case reflect.Slice:
		var wrong []wrongWord
		for i := range v.Len() {
			wrong = append(wrong, wrongWords(v.Index(i), key)...)
		}
		return wrong
	case reflect.Struct:
		var wrong []wrongWord
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("toml"), ",")
			if name != "" && name != "-" {
				wrong = append(wrong, wrongWords(v.Field(i), append(slices.Clip(key), name))...)
			}
		}
		return wrong
	case reflect.String:
		u, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
		if !ok || v.Len() == 0 {
			return nil // what was left out
		}
		word := v.String()
		if err := u.UnmarshalText([]byte(word)); err != nil {
			return []wrongWord{{key, word, err}}
		}
	}
	return nil
}

// find returns the line and column of the first value of a key that is this word, or holds it, both counted from 1; 0 if
// there is none.
func (w wrongWord) find(data []byte) (line, column int) {
	for v := range scalars(data) {
		if v.Kind == unstable.String && string(v.Data) == w.word && slices.Equal(v.key, w.key) {
			at := v.shape(v.Raw).Start
			return at.Line, at.Column
		}
	}
	return 0, 0
}

// notStrings returns an error for each number, truth value or date where t wants a word: the decoder would take its text for one.
// Its place is that of the key.
func notStrings(file string, data []byte, t reflect.Type) []error {
	var all []error
	for v := range scalars(data) {
		if v.Kind != unstable.String && isWord(t, v.key) {
			at := v.shape(v.name.Raw).Start
			text := strings.Join(v.key, ".") + ": a string is wanted: put it between quotes"
			all = append(all, &Error{File: file, Line: at.Line, Column: at.Column, Text: text})
		}
	}
	return all
}

// A scalar is a value that is neither a list nor a table.
type scalar struct {
	*unstable.Node
	key   []string       // from the root of the document
	name  *unstable.Node // the first part of the key that stands before it
	shape func(unstable.Range) unstable.Shape
}

// scalars yields the scalars of a document in order, those in lists and inline tables included. A node is valid until the next.
func scalars(data []byte) iter.Seq[scalar] {
	return func(yield func(scalar) bool) {
		var p unstable.Parser
		p.Reset(data)
		var pair func(e *unstable.Node, table []string) bool
		pair = func(e *unstable.Node, table []string) bool {
			key, first := append(slices.Clip(table), keyOf(e)...), e.Key()
			first.Next()
			var value func(n *unstable.Node) bool
			value = func(n *unstable.Node) bool {
				switch n.Kind {
				case unstable.KeyValue:
					return pair(n, key)
				case unstable.Array, unstable.InlineTable:
					for it := n.Children(); it.Next(); {
						if !value(it.Node()) {
							return false
						}
					}
					return true
				case unstable.Comment:
					return true
				}
				return yield(scalar{n, key, first.Node(), p.Shape})
			}
			return value(e.Value())
		}
		var table []string
		for p.NextExpression() {
			switch e := p.Expression(); e.Kind {
			case unstable.Table, unstable.ArrayTable:
				table = keyOf(e)
			case unstable.KeyValue:
				if !pair(e, table) {
					return
				}
			}
		}
	}
}

// isWord reports whether the value of a key, or each of a list, reads itself from a text.
func isWord(t reflect.Type, key []string) bool {
	for _, part := range key {
		t = fieldType(t, part)
	}
	for t != nil {
		if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
			return true
		}
		if t.Kind() != reflect.Slice && t.Kind() != reflect.Pointer {
			return false
		}
		t = t.Elem()
	}
	return false
}

// failing returns where the first key stands up to whose end a document cannot be decoded into a value of type t. It is for
// the errors for which the decoder gives no place: those of an UnmarshalText that got a number.
func failing(data []byte, t reflect.Type) (line, column int) {
	var p unstable.Parser
	p.Reset(data)
	type start struct{ offset, line, column int }
	var starts []start
	for p.NextExpression() {
		if key := p.Expression().Key(); key.Next() {
			at := p.Shape(key.Node().Raw).Start
			starts = append(starts, start{at.Offset, at.Line, at.Column})
		}
	}
	for i, s := range starts {
		end := len(data)
		if i+1 < len(starts) {
			// Up to the line of the next key, which may begin with the brackets of a table.
			end = bytes.LastIndexByte(data[:starts[i+1].offset], '\n') + 1
		}
		if toml.Unmarshal(data[:end], reflect.New(t).Interface()) != nil {
			return s.line, s.column
		}
	}
	return 1, 1
}

func keyOf(e *unstable.Node) []string {
	var key []string
	for it := e.Key(); it.Next(); {
		key = append(key, string(it.Node().Data))
	}
	return key
}

// Tables returns the lines, counted from 1, of the tables [[key]] of a document, in order.
func Tables(data []byte, key string) []int {
	var p unstable.Parser
	p.Reset(data)
	var lines []int
	for p.NextExpression() {
		if e := p.Expression(); e.Kind == unstable.ArrayTable && slices.Equal(keyOf(e), []string{key}) {
			it := e.Key()
			it.Next()
			lines = append(lines, p.Shape(it.Node().Raw).Start.Line)
		}
	}
	return lines
}
