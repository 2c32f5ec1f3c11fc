package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"hapax/image/archive"
	"hapax/image/inroot"
)

// An Include copies a file or a whole folder of the host into the image. Permissions are kept; owners and times are not.
type Include struct {
	Source string // a link here is followed; links below a folder stay links
	Target string // below the root of the image; with a slash at its end, the folder to put Source into
}

// ParseInclude reads "SRC" or "SRC:DST". Without DST the file keeps its absolute name. The last colon divides.
func ParseInclude(text string) (Include, error) {
	source, target := text, ""
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		source, target = text[:i], text[i+1:]
		if target == "" {
			return Include{}, fmt.Errorf("include %q has no target behind the colon", text)
		}
	}
	if source == "" {
		return Include{}, fmt.Errorf("include %q names no file", text)
	}
	if target == "" {
		abs, err := filepath.Abs(source)
		if err != nil {
			return Include{}, err
		}
		target = abs
	}
	if slices.Contains(strings.Split(target, "/"), "..") {
		return Include{}, fmt.Errorf("include %q: the target may not hold \"..\": name its place in the image", text)
	}
	return Include{Source: source, Target: target}, nil
}

// UnmarshalText reads an Include as ParseInclude does.
func (in *Include) UnmarshalText(text []byte) (err error) {
	*in, err = ParseInclude(string(text))
	return err
}

// addIncludes adds the includes in order. A file that is in the image already, be it /init, is an error.
func (b *builder) addIncludes(context.Context) error {
	for _, in := range b.spec.Includes {
		if err := b.include(in, 0, "--include "+in.Source); err != nil {
			return fmt.Errorf("include %s: %w", in.Source, err)
		}
	}
	return nil
}

// include copies a file or folder. A mode other than 0 takes the place of that of a file. Several names of one file stay one
// file.
func (b *builder) include(in Include, mode octal, why string) error {
	source, err := filepath.EvalSymlinks(in.Source)
	if err != nil {
		return err
	}
	target := in.Target
	if strings.HasSuffix(target, "/") && path.Clean(target) != "/" {
		target = path.Join(target, filepath.Base(in.Source))
	}
	target = strings.TrimPrefix(path.Clean("/"+target), "/")
	first := map[[2]uint64]string{} // the name of a file that has several, by device and inode
	return filepath.WalkDir(source, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(source, file)
		if err != nil {
			return err
		}
		name := path.Join(target, filepath.ToSlash(below))
		if name == "." || name == "" { // a folder that becomes the root itself
			if !d.IsDir() {
				return fmt.Errorf("a file cannot be the root of the image: name its place, such as %s:/%s", in.Source, path.Base(in.Source))
			}
			return nil
		}
		e, err := hostEntry(name, file, d)
		if err != nil {
			return err
		}
		if e.Mode.IsRegular() {
			e.Mode = mode.or(e.Mode)
			if id, several := linkedFile(d); several && first[id] != "" {
				e = archive.HardLink(name, first[id], e.Mode)
			} else if several {
				first[id] = name
			}
		}
		return b.add(e, why)
	})
}

// linkedFile returns the device and inode of a file, and whether it has other names.
func linkedFile(d fs.DirEntry) (id [2]uint64, several bool) {
	info, err := d.Info()
	if err != nil {
		return id, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Nlink < 2 {
		return id, false
	}
	return [2]uint64{uint64(st.Dev), st.Ino}, true //nolint:unconvert // narrower on some architectures
}

// hostEntry describes a file of the host as it is, without following a link.
func hostEntry(name, file string, d fs.DirEntry) (archive.Entry, error) {
	info, err := d.Info()
	if err != nil {
		return archive.Entry{}, err
	}
	e := archive.Entry{Name: name, Mode: inroot.Mode(info)}
	switch info.Mode().Type() {
	case 0:
		e.Size = info.Size()
		e.Open = func() (io.ReadCloser, error) { return os.Open(file) }
	case fs.ModeSymlink:
		e.Link, err = os.Readlink(file)
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		var st unix.Stat_t
		err = unix.Lstat(file, &st)
		e.Dev = archive.Devno{Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}
	case fs.ModeDir:
	default:
		err = errors.New(file + ": neither a file, a folder, a link nor a device")
	}
	return e, err
}
