package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"hapax/modload/modindex"
)

// Bounds on what is taken out of an image for its index.
const (
	maxIndexFile = 32 << 20
	maxSetting   = 256 << 10
)

// A moduleIndex is the module index of an image, with the modprobe.d(5) files in it. It lies in a temporary folder, for that
// is what modindex reads.
type moduleIndex struct {
	*modindex.Index
	view    *modindex.View
	config  *modindex.Config
	missing *modindex.Missing // nil if the image does not tell what it lacks
	dir     string            // of the modules in the image
	temp    string
}

// needed reports whether Check reads a file whatever else it finds.
func needed(name string, size int64) bool {
	switch base := path.Base(name); {
	case inModules(name):
		return size <= maxIndexFile && (strings.HasPrefix(base, "modules.") || strings.HasPrefix(base, "hapax.") || base == boosterAliases)
	case strings.HasPrefix(name, "etc/"), strings.Contains(name, "modprobe.d/"):
		return size <= maxSetting
	}
	return false
}

// openIndex opens the index for the modules in dir, a folder of the image such as "usr/lib/modules/6.1". An image without
// one, whose maker has another way, gets one from what the modules say about themselves.
func (t *Tree) openIndex(dir string) (x *moduleIndex, err error) {
	x = &moduleIndex{dir: dir}
	if x.temp, err = os.MkdirTemp("", "hapax-check-"); err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.close())
		}
	}()
	// The name of a folder that an image made up stays out of the host's file system.
	local := filepath.Join(x.temp, "lib/modules/release")
	if err := os.MkdirAll(local, 0o700); err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	if err := t.export(dir, local, func(f *File) bool { return path.Dir(f.Path) == dir }); err != nil {
		return nil, err
	}
	for _, d := range modindex.ConfigDirs("") {
		from, ok := t.Lookup(d)
		if !ok {
			continue
		}
		to := filepath.Join(x.temp, "config", d)
		if err := os.MkdirAll(to, 0o700); err != nil {
			return nil, fmt.Errorf("%w", err)
		}
		if err := t.export(from.Path, to, func(f *File) bool { return path.Dir(f.Path) == from.Path }); err != nil {
			return nil, err
		}
	}
	if !t.indexed(dir) {
		if err := t.makeIndex(dir, local); err != nil {
			return nil, err
		}
	}
	if x.Index, err = modindex.Open(local); err != nil {
		return nil, err
	}
	if x.missing, err = modindex.OpenMissing(local); errors.Is(err, fs.ErrNotExist) {
		x.missing, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	x.config, _ = modindex.ReadConfig(modindex.ConfigDirs(filepath.Join(x.temp, "config")), t.Source.Cmdline)
	x.view = x.Index.With(x.config)
	return x, nil
}

// indexed reports whether there is an index in a folder of modules.
func (t *Tree) indexed(dir string) bool {
	for _, name := range []string{"modules.dep.bin", "modules.dep"} {
		if f, ok := t.Lookup(dir + "/" + name); ok && f.Mode.IsRegular() {
			return true
		}
	}
	return false
}

// export writes the kept files that take wants to a folder of the host. Their names have no slash, so they stay there.
func (t *Tree) export(dir, to string, take func(*File) bool) error {
	for name, f := range t.files {
		if !take(f) || !f.Mode.IsRegular() || f.Content.Data == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(to, path.Base(name)), f.Content.Data, 0o600); err != nil {
			return fmt.Errorf("take %s out of the image: %w", f.Path, err)
		}
	}
	return nil
}

func (x *moduleIndex) close() error {
	var errs []error
	if x.missing != nil {
		errs = append(errs, x.missing.Close())
	}
	if x.Index != nil {
		errs = append(errs, x.Index.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(x.temp))...)
}

// damage returns what was wrong with the index, without the name of the temporary folder.
func (x *moduleIndex) damage() string {
	err := x.Err()
	if err == nil && x.missing != nil {
		err = x.missing.Err()
	}
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), filepath.Join(x.temp, "lib/modules/release"), x.dir)
}

// file returns the file of a module, by its path in the index.
func (t *Tree) moduleFile(dir string, m modindex.Module) (*File, bool) {
	name := m.Path
	if !path.IsAbs(name) {
		name = path.Join(dir, name)
	}
	f, ok := t.Lookup(name)
	return f, ok && f.Mode.IsRegular()
}

// writeIndex writes the text files of an index.
func writeIndex(dir string, files map[string]string) error {
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("%w", err)
		}
	}
	return nil
}
