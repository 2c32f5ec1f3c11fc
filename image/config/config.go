// Package config reads hapax.toml, in which every flag of `hapax build` has a key of the same name. docs/hapax.toml.md is
// its manual.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"hapax/image"
	"hapax/image/strict"
)

// DefaultFile is read when no other file is named. It need not be there.
const DefaultFile = "/etc/hapax.toml"

// maxSize bounds a file: nobody writes a megabyte of settings.
const maxSize = 1 << 20

// Read returns what a file and its drop-ins say, the files FILE.d/*.toml in the order of their names: a later value takes the
// place of an earlier one, and a later list goes behind it. A file that is not there is an error unless it is DefaultFile.
//
// The error names file, line and column, and says which key may have been meant.
func Read(file string) (image.Spec, error) {
	files := []string{file}
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) && file == DefaultFile {
		files = nil
	}
	more, err := dropIns(file + ".d")
	if err != nil {
		return image.Spec{}, err
	}
	var spec image.Spec
	for _, name := range append(files, more...) {
		if err := decode(name, &spec); err != nil {
			return image.Spec{}, err
		}
	}
	return spec, nil
}

// dropIns returns the files of a folder that need not be there.
func dropIns(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	var files []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".toml") && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}

// decode reads one file over what earlier ones said.
func decode(file string, spec *image.Spec) error {
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("%w", err)
	}
	if info.Size() > maxSize {
		return fmt.Errorf("%s: %d bytes: a file of settings has at most %d", file, info.Size(), maxSize)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("%w", err)
	}
	next := *spec
	for _, list := range lists(&next) {
		list.SetZero()
	}
	if err := strict.Decode(file, data, &next); err != nil {
		return err
	}
	for i, line := range strict.Tables(data, "service") {
		if i < len(next.Services) {
			next.Services[i].Where = fmt.Sprintf("%s:%d", file, line)
		}
	}
	*spec = merge(*spec, next, func(string) bool { return true })
	return nil
}

// Overlay returns the spec that flags give over that of a file: a flag that was given, as changed reports by its name, wins,
// and a list that was given goes behind that of the file.
func Overlay(file, flags image.Spec, changed func(flag string) bool) image.Spec {
	next := merge(file, flags, changed)
	next.Output, next.Time, next.Progress = flags.Output, flags.Time, flags.Progress
	if changed("mode") && next.Mode != image.FromProfile {
		next.Profiles = flags.Profiles // those of the file are for its mode
	}
	return next
}

// merge returns later with the lists of earlier in front of its own, and with the values of earlier that set does not report
// as set and that are not zero.
func merge(earlier, later image.Spec, set func(key string) bool) image.Spec {
	before := reflect.ValueOf(earlier)
	after := reflect.ValueOf(&later).Elem()
	for i := range after.NumField() {
		key := after.Type().Field(i).Tag.Get("toml")
		from, to := before.Field(i), after.Field(i)
		switch {
		case key == "-" || key == "":
		case to.Kind() == reflect.Slice:
			concat(from, to)
		case !set(key) && !from.IsZero():
			to.Set(from)
		case to.Kind() == reflect.Struct: // a table: what was not said is in it already, for the file was decoded over it
			for j := range to.NumField() {
				if to.Field(j).Kind() == reflect.Slice {
					concat(from.Field(j), to.Field(j))
				}
			}
		}
	}
	return later
}

// concat puts the elements of one list in front of those of another.
func concat(from, to reflect.Value) {
	to.Set(reflect.AppendSlice(from.Slice3(0, from.Len(), from.Len()), to))
}

// lists returns the fields of a spec, and of its tables, that are lists.
func lists(spec *image.Spec) []reflect.Value {
	var found []reflect.Value
	var search func(v reflect.Value)
	search = func(v reflect.Value) {
		for i := range v.NumField() {
			switch f := v.Field(i); {
			case f.Kind() == reflect.Slice:
				found = append(found, f)
			case f.Kind() == reflect.Struct:
				search(f)
			}
		}
	}
	search(reflect.ValueOf(spec).Elem())
	return found
}
