// Package strict reads TOML files and forgives nothing: a key that means nothing is most often a slip.
package strict

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"hapax/nearest"
)

// An Error says where in a file something is wrong.
type Error struct {
	File   string
	Line   int // both count from 1
	Column int
	Text   string
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Text) }

// Decode decodes a TOML document, that of the named file, into the struct that v points to. Every key must be that of a
// field. The error is an *Error, or several of them joined, one for each key that is unknown.
func Decode(file string, data []byte, v any) error {
	d := toml.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		return errors.Join(errors.Join(notStrings(file, data, reflect.TypeOf(v))...), refused(file, data, v))
	}
	if unknown, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		var all []error
		for i := range unknown.Errors {
			e := &unknown.Errors[i]
			all = append(all, at(file, e, "unknown key "+strings.Join(e.Key(), ".")+hint(e.Key(), reflect.TypeOf(v))))
		}
		return errors.Join(all...)
	}
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		text := strings.TrimPrefix(e.Error(), "toml: ")
		if key := strings.Join(e.Key(), "."); key != "" && !strings.Contains(text, key) {
			text = key + ": " + text
		}
		return at(file, e, text)
	}
	line, column := failing(data, reflect.TypeOf(v).Elem())
	return &Error{File: file, Line: line, Column: column, Text: err.Error()}
}

// refused returns an error for each word that its type refuses.
func refused(file string, data []byte, v any) error {
	var all []error
	for _, w := range wrongWords(reflect.ValueOf(v), nil) {
		line, column := w.find(data)
		all = append(all, &Error{File: file, Line: line, Column: column, Text: strings.Join(w.key, ".") + ": " + w.err.Error()})
	}
	return errors.Join(all...)
}

func at(file string, e *toml.DecodeError, text string) *Error {
	line, column := e.Position()
	return &Error{File: file, Line: line, Column: column, Text: text}
}

// hint returns "; did you mean KEY?" for the key of the same table that is nearest.
func hint(key toml.Key, t reflect.Type) string {
	if len(key) == 0 {
		return ""
	}
	for _, part := range key[:len(key)-1] {
		t = fieldType(t, part)
	}
	if best := nearest.Word(key[len(key)-1], Keys(t)); best != "" {
		return "; did you mean " + best + "?"
	}
	return ""
}

// Keys yields the keys of a struct, which may be behind pointers and slices: the names in the toml tags of its fields.
func Keys(t reflect.Type) iter.Seq[string] {
	return func(yield func(string) bool) {
		for f := range fields(t) {
			if key, _, _ := strings.Cut(f.Tag.Get("toml"), ","); key != "" && key != "-" && !yield(key) {
				return
			}
		}
	}
}

// fieldType returns the type behind a key, nil if there is none.
func fieldType(t reflect.Type, key string) reflect.Type {
	for f := range fields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("toml"), ","); name == key {
			return f.Type
		}
	}
	return nil
}

// fields yields the fields of a struct behind pointers and slices, none for any other type.
func fields(t reflect.Type) iter.Seq[reflect.StructField] {
	for t != nil && (t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice) {
		t = t.Elem()
	}
	return func(yield func(reflect.StructField) bool) {
		if t == nil || t.Kind() != reflect.Struct {
			return
		}
		for i := range t.NumField() {
			if !yield(t.Field(i)) {
				return
			}
		}
	}
}
