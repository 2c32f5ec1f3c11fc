package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hapax/image/archive"
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

// addIncludes adds the includes in order. A file that is in the image already, be it /init, is an error.
func addIncludes(tree *archive.Tree, spec Spec) error {
	for _, in := range spec.Includes {
		if err := in.addTo(tree); err != nil {
			return fmt.Errorf("include %s: %w", in.Source, err)
		}
	}
	return nil
}

func (in Include) addTo(tree *archive.Tree) error {
	source, err := filepath.EvalSymlinks(in.Source)
	if err != nil {
		return err
	}
	target := in.Target
	if strings.HasSuffix(target, "/") && path.Clean(target) != "/" {
		target = path.Join(target, filepath.Base(in.Source))
	}
	target = strings.TrimPrefix(path.Clean("/"+target), "/")
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
			return nil
		}
		e, err := hostEntry(name, file, d)
		if err != nil {
			return err
		}
		return tree.Add(e)
	})
}

// hostEntry describes a file of the host as it is, without following a link.
func hostEntry(name, file string, d fs.DirEntry) (archive.Entry, error) {
	info, err := d.Info()
	if err != nil {
		return archive.Entry{}, err
	}
	e := archive.Entry{Name: name, Mode: info.Mode()}
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
