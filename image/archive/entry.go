// Package archive writes and reads initramfs images: newc cpio archives, compressed or not, as the kernel's
// init/initramfs.c accepts them.
//
// What is written depends on the entries alone: they are sorted, owned by root, carry one time stamp and number their
// inodes in order. What is read may be hostile: sizes are limited, names are only reported, nothing is unpacked.
package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Limits of the format, or of the kernel that reads it.
const (
	maxName = 4096 - 1  // PATH_MAX without the NUL: the kernel skips a longer name, content and all
	maxSize = 1<<32 - 1 // c_filesize has eight hexadecimal digits
)

// trailer is the name that ends an archive, so no file can have it.
const trailer = "TRAILER!!!"

// A Devno is a device number as the kernel prints it, "major:minor".
type Devno struct{ Major, Minor uint32 }

// An Entry is one file of an image. Name is relative to the root of the image, with slashes and without "." or "..".
type Entry struct {
	Name string
	Mode fs.FileMode // type and permissions, with setuid, setgid and sticky bits

	Size int64                         // regular files: exact length of what Open gives
	Open func() (io.ReadCloser, error) // regular files; called once, while the archive is written; nil if Size is 0
	Link string                        // symbolic links: the target, written as it is
	Hard string                        // regular files: the name of another entry that this is a second name of
	Dev  Devno                         // device nodes
}

// Validate returns an error for an entry that the format or the kernel would cut, skip or misread.
func (e Entry) Validate() error {
	switch {
	case !fs.ValidPath(e.Name) || e.Name == ".":
		return fmt.Errorf("name %q is not a clean relative path", e.Name)
	case len(e.Name) > maxName:
		return fmt.Errorf("name %.40q... has %d bytes, at most %d fit", e.Name, len(e.Name), maxName)
	case strings.ContainsRune(e.Name, 0) || e.Name == trailer:
		return fmt.Errorf("name %q would end early", e.Name)
	}
	var err error
	switch e.Mode.Type() {
	case 0:
		if e.Size < 0 || e.Size > maxSize {
			err = fmt.Errorf("size %d is beyond what newc can hold (4 GiB)", e.Size)
		}
		if e.Hard != "" && (e.Size != 0 || e.Open != nil || e.Hard == e.Name) {
			err = fmt.Errorf("a hard link to %q with content of its own", e.Hard)
		}
	case fs.ModeSymlink:
		if len(e.Link) == 0 || len(e.Link) > maxName || strings.ContainsRune(e.Link, 0) {
			err = fmt.Errorf("link target %.40q is empty, too long or has a NUL", e.Link)
		}
	case fs.ModeDir, fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
	default:
		err = fmt.Errorf("a file of type %v cannot be put into an image", e.Mode.Type())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", e.Name, err)
	}
	return nil
}

// Bytes returns a regular file with the given content, which must not change before it is written.
func Bytes(name string, perm fs.FileMode, content []byte) Entry {
	return Entry{Name: name, Mode: perm, Size: int64(len(content)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}}
}

// Dir returns a folder.
func Dir(name string, perm fs.FileMode) Entry { return Entry{Name: name, Mode: fs.ModeDir | perm} }

// Symlink returns a symbolic link to target.
func Symlink(name, target string) Entry {
	return Entry{Name: name, Mode: fs.ModeSymlink | 0o777, Link: target}
}

// HardLink returns a second name of the regular file target, whose permissions it has.
func HardLink(name, target string, perm fs.FileMode) Entry {
	return Entry{Name: name, Mode: perm, Hard: target}
}

// CharDevice returns the node of a character device.
func CharDevice(name string, perm fs.FileMode, dev Devno) Entry {
	return Entry{Name: name, Mode: fs.ModeDevice | fs.ModeCharDevice | perm, Dev: dev}
}

// A Tree collects the entries of an image, each name once. The zero Tree is empty and ready. It is not for concurrent use.
type Tree struct {
	entries map[string]Entry
}

// Add puts e into the tree, with the folders above it (0755) unless they are there. A folder may be added again and then
// keeps its last permissions; any other name that is there already, and a file below something that is no folder, is an
// error.
func (t *Tree) Add(e Entry) error {
	if err := e.Validate(); err != nil {
		return err
	}
	if t.entries == nil {
		t.entries = map[string]Entry{}
	}
	if old, ok := t.entries[e.Name]; ok && !(old.Mode.IsDir() && e.Mode.IsDir()) {
		return fmt.Errorf("%s: %w in the image", e.Name, fs.ErrExist)
	}
	var above []string
	for dir := path.Dir(e.Name); dir != "."; dir = path.Dir(dir) {
		if old, ok := t.entries[dir]; !ok {
			above = append(above, dir)
		} else if !old.Mode.IsDir() {
			return fmt.Errorf("%s: %s is not a folder in the image", e.Name, dir)
		}
	}
	for _, dir := range above {
		t.entries[dir] = Dir(dir, 0o755)
	}
	t.entries[e.Name] = e
	return nil
}

// Has reports whether the tree holds an entry of this name.
func (t *Tree) Has(name string) bool {
	_, ok := t.entries[name]
	return ok
}

// Get returns the entry of this name, if the tree holds one.
func (t *Tree) Get(name string) (Entry, bool) {
	e, ok := t.entries[name]
	return e, ok
}

// Entries returns what the tree holds, sorted by name byte by byte, so that a folder comes before what is in it.
func (t *Tree) Entries() []Entry {
	sorted := make([]Entry, 0, len(t.entries))
	for _, e := range t.entries {
		sorted = append(sorted, e)
	}
	slices.SortFunc(sorted, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return sorted
}

// ErrChanged reports a file whose length changed between the moment it was added and the moment it was copied.
var ErrChanged = errors.New("file changed while it was read")
