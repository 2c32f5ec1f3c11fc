package switchroot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// freed says what freeTree did.
type freed struct {
	removed int // files and directories
	kept    int // mount points and what is above them
}

// freeTree removes everything below the directory dir, which it closes, and gives the memory of an
// initramfs back. It stays on the file system of dir: a directory on another device and anything that is
// a mount point are kept, and links are removed, not followed. All names are resolved from an open
// directory, so it does not matter where dir is mounted, or if at all.
//
// It goes on after an error and returns the first one. A serial walk it is: an unlink on a ramfs takes
// about 2 µs, so that the few hundred files of an image are gone sooner than a process to do it has started.
func freeTree(dir int) (freed, error) {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		unix.Close(dir)
		return freed{}, err
	}
	f := &freer{dev: uint64(st.Dev), buf: make([]byte, 32<<10)}
	f.empty(dir)
	return f.freed, f.err
}

// A freer empties directories of one file system.
type freer struct {
	freed
	dev uint64
	buf []byte // for getdents; its names are copied before the next use
	err error  // the first one
}

// An entry is a name in a directory.
type entry struct {
	name string
	dir  bool
}

// empty removes what is in the open directory dir, and closes dir.
func (f *freer) empty(dir int) {
	defer unix.Close(dir)
	for {
		n, err := unix.Getdents(dir, f.buf)
		if err != nil {
			f.fail("read directory", err)
			return
		}
		if n <= 0 {
			return
		}
		for _, e := range entries(f.buf[:n]) {
			f.remove(dir, e)
		}
	}
}

// remove removes e from dir, with everything in it.
func (f *freer) remove(dir int, e entry) {
	flags := 0
	if e.dir {
		if !f.descend(dir, e.name) {
			return
		}
		flags = unix.AT_REMOVEDIR
	}
	switch err := unix.Unlinkat(dir, e.name, flags); {
	case err == nil:
		f.removed++
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.ENOTEMPTY) && f.kept > 0:
		f.kept++ // a mount point, or a directory with one below
	default:
		f.fail("remove "+quote(e.name), err)
	}
}

// descend empties the directory name in dir. It reports false if that is not of this file system.
func (f *freer) descend(dir int, name string) bool {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		f.fail("open "+quote(name), err)
		return false
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || uint64(st.Dev) != f.dev {
		unix.Close(fd)
		f.kept++
		return false
	}
	f.empty(fd)
	return true
}

func (f *freer) fail(what string, err error) {
	if f.err == nil {
		f.err = fmt.Errorf("%s: %w", what, err)
	}
}

// entries decodes what getdents64(2) put into buf, without "." and "..". On the file systems of an
// initramfs every entry tells its type.
func entries(buf []byte) []entry {
	const header = 19 // d_ino, d_off: 8 bytes each; d_reclen: 2; d_type: 1
	var list []entry
	for len(buf) > header {
		size := int(binary.NativeEndian.Uint16(buf[16:]))
		if size <= header || size > len(buf) {
			break
		}
		name, _, _ := bytes.Cut(buf[header:size], []byte{0})
		if s := string(name); s != "." && s != ".." {
			list = append(list, entry{name: s, dir: buf[18] == unix.DT_DIR})
		}
		buf = buf[size:]
	}
	return list
}
