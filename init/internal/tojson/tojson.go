// Package tojson writes values as JSON, for the reports of an init that has to stay small.
//
// It writes what encoding/json writes, byte for byte, for the kinds of values that reports are made of. That package with
// its decoder, which nothing here needs, is 210 kB of /init, in memory for as long as the machine runs.
package tojson

import (
	"encoding"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Marshal returns v as JSON, on one line.
//
// It knows booleans, integers, finite floats, strings, slices, arrays, pointers, structs with the tags of encoding/json
// (a name, "-", omitempty; fields of embedded structs count as fields of the outer one), and what implements
// encoding.TextMarshaler. Of these an error of MarshalText becomes null. Anything else is a defect of the caller and panics:
// Marshal is for types of this program, which a test has marshalled before.
func Marshal(v any) []byte { return appendValue(nil, reflect.ValueOf(v)) }

func appendValue(b []byte, v reflect.Value) []byte {
	if v.IsValid() && v.CanInterface() {
		if m, ok := v.Interface().(encoding.TextMarshaler); ok {
			return appendMarshalled(b, m, v)
		}
	}
	switch v.Kind() {
	case reflect.Invalid:
		return append(b, "null"...)
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10)
	case reflect.Float64:
		return appendFloat(b, v.Float())
	case reflect.String:
		return appendString(b, v.String())
	case reflect.Pointer, reflect.Interface:
		return appendValue(b, v.Elem()) // of nil that is the invalid value
	case reflect.Slice, reflect.Array:
		return appendList(b, v)
	case reflect.Struct:
		b, _ = appendFields(append(b, '{'), v, true)
		return append(b, '}')
	}
	panic("tojson: no form for " + v.Type().String())
}

func appendMarshalled(b []byte, m encoding.TextMarshaler, v reflect.Value) []byte {
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return append(b, "null"...)
	}
	text, err := m.MarshalText()
	if err != nil {
		return append(b, "null"...)
	}
	return appendString(b, string(text))
}

func appendList(b []byte, v reflect.Value) []byte {
	if v.Kind() == reflect.Slice {
		if v.IsNil() {
			return append(b, "null"...)
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			panic("tojson: no form for bytes") // encoding/json would write base64
		}
	}
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendValue(b, v.Index(i))
	}
	return append(b, ']')
}

// appendFields writes the fields of a struct without its braces. It tells whether the next field is the first one still.
func appendFields(b []byte, v reflect.Value, first bool) ([]byte, bool) {
	t := v.Type()
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous && name == "" && field.Type.Kind() == reflect.Struct:
			b, first = appendFields(b, v.Field(i), first)
			continue
		case !field.IsExported() || name == "-" || options == "omitempty" && empty(v.Field(i)):
			continue
		case name == "":
			name = field.Name
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendString(b, name), ':')
		b = appendValue(b, v.Field(i))
	}
	return b, first
}

// empty tells what omitempty leaves out. A struct is never empty.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Array, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// appendFloat writes a number as ECMAScript does.
func appendFloat(b []byte, f float64) []byte {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return append(b, "null"...) // there is no such number in JSON; a report is worth more than one of its numbers
	}
	if abs := math.Abs(f); abs == 0 || 1e-6 <= abs && abs < 1e21 {
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	b = strconv.AppendFloat(b, f, 'e', -1, 64)
	if n := len(b); n >= 4 && b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' { // e-09 is e-9
		b[n-2] = b[n-1]
		b = b[:n-1]
	}
	return b
}

// appendString writes text, which need not be UTF-8, so that it can stand in HTML and in JavaScript as well.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r == '\b':
			b = append(b, `\b`...)
		case r == '\f':
			b = append(b, `\f`...)
		case r < ' ' || r == '<' || r == '>' || r == '&' || r == '\u2028' || r == '\u2029':
			b = append(b, '\\', 'u', hex[r>>12&0xf], hex[r>>8&0xf], hex[r>>4&0xf], hex[r&0xf])
		case r == utf8.RuneError && size == 1:
			b = append(b, `\ufffd`...)
		default:
			b = append(b, s[i:i+size]...)
		}
		i += size
	}
	return append(b, '"')
}
