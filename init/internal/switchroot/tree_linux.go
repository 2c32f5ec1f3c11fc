package switchroot

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A tree is a directory whose paths are resolved as if it were "/".
type tree struct {
	fd      int
	openat2 bool // the kernel has openat2(2), which came with 5.6
}

func openTree(root string) (*tree, error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	return &tree{fd: fd, openat2: true}, nil
}

func (t *tree) close() { unix.Close(t.fd) }

// open opens path inside t. Neither ".." nor a link leads out of t; an absolute link begins at t again.
func (t *tree) open(path string, flags int) (int, error) {
	if t.openat2 {
		how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
		// EAGAIN: something was renamed or mounted meanwhile, so the kernel could not be sure.
		for range 8 {
			fd, err := unix.Openat2(t.fd, path, &how)
			if errors.Is(err, unix.ENOSYS) {
				break
			}
			if !errors.Is(err, unix.EAGAIN) {
				return fd, err
			}
		}
		t.openat2 = false
	}
	return t.walk(path, flags)
}

// resolve returns where path leads, below t; "" if the kernel does not tell.
func (t *tree) resolve(path string) string {
	name := func(fd int) string {
		link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if err != nil {
			return ""
		}
		return link
	}
	fd, err := t.open(path, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	program, below := strings.CutPrefix(name(fd), strings.TrimSuffix(name(t.fd), "/")+"/")
	if !below {
		return ""
	}
	return "/" + program
}

// maxLinks is how many links the kernel follows on one path.
const maxLinks = 40

// walk is open for a kernel without openat2. It resolves one component after the other in user space, which
// is right as long as nobody renames things meanwhile: before switch_root there is nobody.
func (t *tree) walk(path string, flags int) (int, error) {
	done := "" // what is resolved: no link in it, and no slash at its ends
	for links, todo, more := 0, path, true; more; {
		var part string
		part, todo, more = strings.Cut(todo, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			done = done[:max(0, strings.LastIndexByte(done, '/'))]
			continue
		}
		next := part
		if done != "" {
			next = done + "/" + part
		}
		var st unix.Stat_t
		if err := unix.Fstatat(t.fd, next, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return -1, err
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			if links++; links > maxLinks {
				return -1, unix.ELOOP
			}
			buf := make([]byte, maxPath)
			n, err := unix.Readlinkat(t.fd, next, buf)
			if err != nil {
				return -1, err
			}
			target := string(buf[:n])
			if strings.HasPrefix(target, "/") {
				done = ""
			}
			if more {
				target += "/" + todo
			}
			todo, more = target, true
			continue
		case unix.S_IFDIR:
		default:
			if more {
				return -1, unix.ENOTDIR
			}
		}
		done = next
	}
	if done == "" {
		done = "."
	}
	return unix.Openat(t.fd, done, flags|unix.O_NOFOLLOW, 0)
}

// openProgram opens path for reading if it is a file that the kernel would execute for root. It looks
// before it opens: opening a device or a pipe could block or do something.
func (t *tree) openProgram(path string) (*os.File, error) {
	fd, err := t.open(path, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return nil, err
	}
	err = executable(fd)
	unix.Close(fd)
	if err != nil {
		return nil, err
	}
	if fd, err = t.open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// executable reports why the file fd, which may be an O_PATH one, cannot be executed.
func executable(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFDIR:
		return unix.EISDIR
	case kind != unix.S_IFREG:
		return errors.New("not a regular file")
	case st.Mode&0o111 == 0:
		return fmt.Errorf("not executable (mode %#o)", st.Mode&0o7777)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return err
	}
	if fs.Flags&unix.ST_NOEXEC != 0 {
		return errors.New("on a file system that is mounted noexec; take noexec out of rootflags=")
	}
	return nil
}
