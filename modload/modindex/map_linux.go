package modindex

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// mapFile maps a file for reading. An empty one gives no bytes and no error. The
// descriptor is closed again: the mapping holds the file.
func mapFile(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("%s: not a regular file", name)
	case st.Size > posMask:
		return nil, fmt.Errorf("%s: %d bytes are more than an index can address", name, st.Size)
	case st.Size == 0:
		return nil, nil
	}
	data, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &fs.PathError{Op: "mmap", Path: name, Err: err}
	}
	return data, nil
}

// unmapAll ends the mappings.
func unmapAll(maps [][]byte) error {
	var errs []error
	for _, m := range maps {
		if err := unix.Munmap(m); err != nil {
			errs = append(errs, fmt.Errorf("munmap: %w", err))
		}
	}
	return errors.Join(errs...)
}
