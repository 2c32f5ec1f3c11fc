package coldplug

import (
	"bytes"
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// Links are never followed: they lead to devices that the walk finds in their own place.
	openDir = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	// Whatever hides behind the name of an attribute, opening and reading it does not block.
	openFile = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
)

// openat opens the file in the directory dir whose name begins at name and ends in a NUL, as the
// kernel's directory entries do. unix.Openat would need two copies of every name.
func openat(dir int, name *byte, flags int) (int, error) {
	for {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(name)), uintptr(flags), 0, 0, 0)
		switch errno {
		case 0:
			return int(fd), nil
		case syscall.EINTR:
		default:
			return -1, errno
		}
	}
}

// readFile fills buf from the start of the file name, which ends in a NUL, in the directory dir. One
// read is enough: sysfs gives an attribute whole. Of a longer file the lines that fit buf are returned.
func readFile(dir int, name string, buf []byte) ([]byte, error) {
	fd, err := openat(dir, unsafe.StringData(name), openFile)
	if err != nil {
		return nil, err
	}
	n, err := unix.Read(fd, buf)
	for err == unix.EINTR {
		n, err = unix.Read(fd, buf)
	}
	unix.Close(fd)
	if err != nil {
		return nil, err
	}
	if n == len(buf) {
		n = bytes.LastIndexByte(buf, '\n') + 1
	}
	return buf[:n], nil
}

// A dirent is one entry of a directory.
type dirent struct {
	name []byte // ends in a NUL
	typ  byte   // DT_DIR, ...
}

// nextDirent splits the first entry off what getdents64 has filled in. The layout is that of struct
// linux_dirent64: inode and offset of 8 bytes each, length of 2, type of 1, name. ok is false at the end.
func nextDirent(b []byte) (d dirent, rest []byte, ok bool) {
	const header = 8 + 8 + 2 + 1
	if len(b) <= header {
		return dirent{}, nil, false
	}
	size := int(binary.NativeEndian.Uint16(b[16:]))
	if size <= header || size > len(b) {
		return dirent{}, nil, false
	}
	end := bytes.IndexByte(b[header:size], 0)
	if end < 0 {
		return dirent{}, nil, false
	}
	return dirent{name: b[header : header+end+1], typ: b[header-1]}, b[size:], true
}
