package modindex

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// What is read of a configuration. The one of a whole distribution has a few
// dozen files of a few hundred bytes.
const (
	maxConfigFile  = 1 << 20 // bytes of one file
	maxConfigTotal = 8 << 20 // and of all
	maxConfigFiles = 1024
	maxConfigNotes = 100 // problems that are reported one by one
)

// ConfigDirs returns the folders below root where modprobe(8) looks for its
// configuration, the most important one first.
func ConfigDirs(root string) []string {
	dirs := []string{"etc", "run", "usr/local/lib", "usr/lib", "lib"}
	for i, dir := range dirs {
		dirs[i] = filepath.Join(root, dir, "modprobe.d")
	}
	return dirs
}

// ReadConfig reads the *.conf files of the modprobe.d(5) folders dirs, and then
// the kernel command line, as /proc/cmdline has it. A file hides those of its
// name in later folders; what is left is read in the byte order of the file
// names. A folder that does not exist is no error, and an element of dirs that
// is a file is read as one. Links are followed; a file that is a link to
// /dev/null is empty, which is how one of the distribution is hidden.
//
// It understands alias, blacklist, install, options, remove, softdep and weakdep
// as libkmod does, and
//
//	deny MODULE...
//
// which keeps each of the modules, patterns allowed, out of the kernel,
// whatever asks for them. modprobe(8) skips such a line with a warning. On
// the kernel command line the same is hapax.deny=MODULE,...
//
// What cannot be used is skipped, and there is an error for each: a *ConfigError
// for a line, another one that names the file for a file. The Config is never nil
// and holds the rest.
func ReadConfig(dirs []string, cmdline string) (*Config, []error) {
	r := configReader{c: newConfig()}
	files := r.files(dirs)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		r.read(files[name])
		if name < "modules.softdep" { // which libkmod sorts in among them
			r.c.indexed = r.c.lines + 1
		}
	}
	r.c.parseCmdline(cmdline)
	return r.c, r.problems()
}

// A configReader is the state of one ReadConfig.
type configReader struct {
	c     *Config
	total int // bytes read
	notes []error
	more  int // problems that are not in notes
}

func (r *configReader) note(err error) {
	if len(r.notes) < maxConfigNotes {
		r.notes = append(r.notes, err)
		return
	}
	r.more++
}

func (r *configReader) problems() []error {
	if r.more > 0 {
		return append(r.notes, fmt.Errorf("module configuration: %d more lines or files were skipped", r.more))
	}
	return r.notes
}

// files returns the paths of the files to read by their names.
func (r *configReader) files(dirs []string) map[string]string {
	files := map[string]string{}
	for _, dir := range dirs {
		st, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		case err != nil:
			r.note(err)
		case st.IsDir():
			r.list(files, dir)
		default:
			addFile(files, filepath.Base(dir), dir)
		}
	}
	return files
}

// list adds the configuration files of a folder that no earlier one hides.
func (r *configReader) list(files map[string]string, dir string) {
	d, err := os.Open(dir)
	if err != nil {
		r.note(err)
		return
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(maxConfigFiles)
		for _, e := range entries {
			r.consider(files, dir, e)
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			r.note(err)
			return
		}
	}
}

// consider adds the file of one entry, if it is one.
func (r *configReader) consider(files map[string]string, dir string, e fs.DirEntry) {
	name := e.Name()
	path := filepath.Join(dir, name)
	if name[0] == '.' || !strings.HasSuffix(name, ".conf") || files[name] != "" {
		return
	}
	if !e.Type().IsRegular() {
		st, err := os.Stat(path)
		if err != nil {
			r.note(err)
			return
		}
		if st.IsDir() {
			r.note(fmt.Errorf("%s: a folder, want a file", path))
			return
		}
	}
	if len(files) == maxConfigFiles {
		r.note(fmt.Errorf("%s: one of more than %d files", path, maxConfigFiles))
		return
	}
	addFile(files, name, path)
}

func addFile(files map[string]string, name, path string) {
	if files[name] == "" {
		files[name] = path
	}
}

// read parses one file.
func (r *configReader) read(path string) {
	data, err := readConfigFile(path)
	if err != nil {
		r.note(err)
		return
	}
	if r.total += len(data); r.total > maxConfigTotal {
		r.note(fmt.Errorf("%s: brings the configuration to more than %d bytes", path, maxConfigTotal))
		r.total -= len(data)
		return
	}
	r.c.parse(path, data, r.note)
}

// readConfigFile returns the contents of a file, "" for a device. A file that
// is too large is not read in part: its last line would be half of one.
func readConfigFile(path string) (string, error) {
	// A pipe must not hold up the boot.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return "", err
	case st.Mode()&fs.ModeDevice != 0:
		return "", nil
	case !st.Mode().IsRegular():
		return "", fmt.Errorf("%s: not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxConfigFile {
		return "", fmt.Errorf("%s: more than %d bytes", path, maxConfigFile)
	}
	return string(data), nil
}
