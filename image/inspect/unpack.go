package inspect

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hapax/image/archive"
)

// UnpackOptions say how Unpack works.
type UnpackOptions struct {
	Limits  archive.Limits
	Archive int  // unpack only this one of several archives, counted from 1; 0: all on top of one another, as the kernel does
	AsRoot  bool // make device nodes and the like, and keep owners and set-user-id bits; needs root
}

// Unpacked is what Unpack has done.
type Unpacked struct {
	Files   int   // made, folders and links included
	Bytes   int64 // in regular files
	Skipped int   // device nodes, sockets and pipes that were left out
}

// Unpack unpacks an image into dir, a folder that is empty or does not exist yet.
//
// An image may be hostile. A name that is absolute or holds "..", a link that climbs out of dir, and a file that would be
// written through a link which leads out of dir are errors, as is an image that exceeds the limits. Links to absolute names
// are made as they are: nearly every image has some, and they lead to the right place where the image is the root. Unpack
// stops at the first error and leaves what it has made before.
func Unpack(s *Source, dir string, o UnpackOptions) (Unpacked, error) {
	u := &unpacker{o: o, links: map[inode]string{}}
	err := u.open(dir)
	if err != nil {
		return u.done, err
	}
	defer u.root.Close()
	if err = u.all(s.Reader(u.o.Limits)); err == nil {
		err = u.within()
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", s.Name, err)
	}
	return u.done, errors.Join(err, u.finish())
}

type unpacker struct {
	o     UnpackOptions
	root  *os.Root
	done  Unpacked
	links map[inode]string // first names of files that have several
	dirs  []archive.Header // to set their modes and times when nothing is made in them any more
	upper []string         // links whose targets hold ".."
}

// open makes the folder, or makes sure that it is empty.
func (u *unpacker) open(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("%w", err)
	}
	d, err := root.Open(".")
	if err == nil {
		_, err = d.ReadDir(1)
		d.Close()
	}
	if err != io.EOF { //nolint:errorlint // ReadDir returns it as it is
		root.Close()
		if err == nil {
			err = fmt.Errorf("%s is not empty: name a new folder", dir)
		}
		return err
	}
	u.root = root
	return nil
}

func (u *unpacker) all(r *archive.Reader) error {
	seen := false
	for {
		h, err := r.Next()
		if err == io.EOF { //nolint:errorlint // a wrapped io.EOF would be damage
			if !seen && u.o.Archive > 0 {
				return fmt.Errorf("it has no archive %d with files", u.o.Archive)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if u.o.Archive > 0 && h.Part+1 != u.o.Archive {
			continue
		}
		seen = true
		if err := u.file(h, r); err != nil {
			return fmt.Errorf("%.200q: %w", h.Name, err)
		}
	}
}

// localName returns the name of an entry as os.Root takes it.
func localName(name string) (string, error) {
	switch {
	case name == "":
		return "", errors.New("an empty name")
	case strings.HasPrefix(name, "/"):
		return "", errors.New("an absolute name: it would lie outside of the folder")
	case slices.Contains(strings.Split(name, "/"), ".."):
		return "", errors.New(`".." in a name: it may lie outside of the folder`)
	}
	return path.Clean(name), nil
}

// climbs reports whether the target of a link, seen from where the link is, leads above the root.
func climbs(name, target string) bool {
	if strings.HasPrefix(target, "/") {
		return false
	}
	depth := strings.Count(name, "/")
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}

// within looks at the links again when all of them are there: ".." behind a link counts from where that one leads to.
func (u *unpacker) within() error {
	for _, name := range u.upper {
		if target, err := u.root.Readlink(name); err == nil && u.leavesBy(path.Dir(name)+"/"+target) && !path.IsAbs(target) {
			return fmt.Errorf("%.200q: a link to %.200q, which lies outside of the folder", name, target)
		}
	}
	return nil
}

// leavesBy reports whether a path with links leads above the root. An absolute link, which does so anyway, ends the search; what is
// not there counts as a folder.
func (u *unpacker) leavesBy(name string) bool {
	at, rest := ".", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch {
		case part == "" || part == ".":
			continue
		case part == ".." && at == ".":
			return true
		case part == "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		info, err := u.root.Lstat(next)
		if err != nil || info.Mode().Type() != fs.ModeSymlink {
			at = next
			continue
		}
		target, err := u.root.Readlink(next)
		if links++; err != nil || path.IsAbs(target) || links > maxHops {
			return false
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return false
}

func (u *unpacker) file(h archive.Header, content io.Reader) error {
	name, err := localName(h.Name)
	if err != nil || name == "." {
		return err
	}
	h.Name = name
	if err := u.clear(h); err != nil {
		return err
	}
	switch h.Mode.Type() {
	case 0:
		err = u.regular(h, content)
	case fs.ModeDir:
		if err = u.root.Mkdir(name, 0o700); errors.Is(err, fs.ErrExist) {
			err = nil
		}
		u.dirs = append(u.dirs, h)
	case fs.ModeSymlink:
		if climbs(name, h.Link) {
			return fmt.Errorf("a link to %.200q, which lies outside of the folder", h.Link)
		}
		if strings.Contains(h.Link, "..") {
			u.upper = append(u.upper, name)
		}
		if err = u.root.Symlink(h.Link, name); err == nil && u.o.AsRoot {
			err = u.root.Lchown(name, int(h.UID), int(h.GID))
		}
	default:
		if !u.o.AsRoot {
			u.done.Skipped++
			return nil
		}
		err = u.node(h)
	}
	if err == nil {
		u.done.Files++
	}
	return explain(err)
}

// explain says what os.Root means.
func explain(err error) error {
	if err != nil && strings.Contains(err.Error(), "path escapes from parent") {
		return errors.New("it lies behind a link that leads out of the folder")
	}
	return err
}

// clear removes what an earlier entry has put into the place of a file, or makes the folder for it. A folder may stay for a
// folder.
func (u *unpacker) clear(h archive.Header) error {
	old, err := u.root.Lstat(h.Name)
	if errors.Is(err, fs.ErrNotExist) { // the kernel would pass the entry over if its folder is missing
		return explain(u.root.MkdirAll(path.Dir(h.Name), 0o755))
	}
	if err == nil && old.IsDir() && h.Mode.IsDir() {
		return nil
	}
	if err == nil {
		err = u.root.Remove(h.Name)
	}
	return explain(err)
}

// regular makes a file, or another name of one that is there.
func (u *unpacker) regular(h archive.Header, content io.Reader) (err error) {
	id := inode{h.Part, h.Inode, h.Device}
	flags := os.O_CREATE | os.O_EXCL
	if first, ok := u.links[id]; ok && h.Links > 1 {
		if err := u.root.Link(first, h.Name); err != nil || h.Size == 0 {
			return err
		}
		flags = os.O_TRUNC
	} else if h.Links > 1 {
		u.links[id] = h.Name
	}
	f, err := u.root.OpenFile(h.Name, os.O_WRONLY|flags, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := io.Copy(f, content)
	u.done.Bytes += n
	if err != nil {
		return err
	}
	if u.o.AsRoot {
		err = f.Chown(int(h.UID), int(h.GID))
	}
	return errors.Join(err, f.Chmod(u.mode(h)), u.root.Chtimes(h.Name, time.Time{}, h.ModTime))
}

// mode returns the permissions to give: what lets others act as the owner is for root to ask for.
func (u *unpacker) mode(h archive.Header) fs.FileMode {
	if u.o.AsRoot {
		return h.Mode &^ fs.ModeType
	}
	return h.Mode & (fs.ModePerm | fs.ModeSticky)
}

// node makes a device node, a pipe or a socket.
func (u *unpacker) node(h archive.Header) error {
	types := map[fs.FileMode]uint32{
		fs.ModeDevice: unix.S_IFBLK, fs.ModeDevice | fs.ModeCharDevice: unix.S_IFCHR,
		fs.ModeNamedPipe: unix.S_IFIFO, fs.ModeSocket: unix.S_IFSOCK,
	}
	kind, ok := types[h.Mode.Type()]
	if !ok {
		return fmt.Errorf("a file of the unknown type %v", h.Mode.Type())
	}
	if h.Dev.Major > math.MaxInt32 || h.Dev.Minor > math.MaxInt32 {
		return fmt.Errorf("the device number %d:%d, which no kernel has", h.Dev.Major, h.Dev.Minor)
	}
	dir, err := u.root.Open(path.Dir(h.Name))
	if err != nil {
		return err
	}
	defer dir.Close()
	// mknodat follows no link at the end of the name, and the folder is open.
	base, at := path.Base(h.Name), int(dir.Fd())
	if err := unix.Mknodat(at, base, kind|0o600, int(unix.Mkdev(h.Dev.Major, h.Dev.Minor))); err != nil {
		return fmt.Errorf("make the device node: %w: only root may do that", err)
	}
	return errors.Join(
		unix.Fchownat(at, base, int(h.UID), int(h.GID), unix.AT_SYMLINK_NOFOLLOW),
		u.root.Chmod(h.Name, h.Mode.Perm()),
	)
}

// finish gives the folders their modes and times, those inside of others first.
func (u *unpacker) finish() error {
	var errs []error
	for _, h := range slices.Backward(u.dirs) {
		info, err := u.root.Lstat(h.Name)
		if err != nil || !info.IsDir() { // a later entry has taken its place
			continue
		}
		if u.o.AsRoot {
			errs = append(errs, u.root.Chown(h.Name, int(h.UID), int(h.GID)))
		}
		errs = append(errs, u.root.Chmod(h.Name, u.mode(h)), u.root.Chtimes(h.Name, time.Time{}, h.ModTime))
	}
	return errors.Join(errs...)
}
