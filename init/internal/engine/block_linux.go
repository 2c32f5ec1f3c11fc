package engine

import (
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A blockDevice is an open device file, read without the runtime's poller.
type blockDevice int

func (d blockDevice) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := unix.Pread(int(d), p[n:], off+int64(n))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return n, err
		case m == 0:
			return n, io.EOF
		}
		n += m
	}
	return n, nil
}

// SectorSize returns the size in which the device counts its partitions, 0 if
// it does not tell.
func (d blockDevice) SectorSize() int {
	n, err := unix.IoctlGetInt(int(d), unix.BLKSSZGET)
	if err != nil {
		return 0
	}
	return n
}

// Close lets the Finder, which asks for a ReaderAt, end the reading.
func (d blockDevice) Close() error { return unix.Close(int(d)) }

// openBlock opens a device below /dev for reading and tells its size. A drive
// without a medium must not hold the open.
func openBlock(name string) (io.ReaderAt, int64, error) {
	path := filepath.Join("/dev", name)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	size, err := unix.Seek(fd, 0, io.SeekEnd)
	if err != nil {
		unix.Close(fd)
		return nil, 0, &os.PathError{Op: "seek", Path: path, Err: err}
	}
	return blockDevice(fd), size, nil
}

// unmount detaches what is mounted at path; it fails if that is nothing.
func unmount(path string) error { return unix.Unmount(path, unix.MNT_DETACH) }
