package modload

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ReadModuleFile returns a module file as the kernel sees it, that is unpacked,
// with its signature. The bounds are those of the loader. It is for those who
// look at modules, such as modinfo(8); the loader itself does not come by here.
func ReadModuleFile(path string) ([]byte, error) {
	// O_NONBLOCK: a FIFO in place of the file must not hold the reader.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular() || st.Size() == 0:
		return nil, &os.PathError{Op: "read", Path: path, Err: unix.EINVAL}
	case st.Size() > maxUnpacked:
		return nil, &os.PathError{Op: "read", Path: path, Err: unix.EFBIG}
	}
	packed := make([]byte, st.Size())
	if _, err := io.ReadFull(f, packed); err != nil {
		return nil, &os.PathError{Op: "read", Path: path, Err: err}
	}
	compression := compressionOf(packed)
	if compression == "" {
		return packed, nil
	}
	var plain bytes.Buffer
	if _, err := decompress(&plain, compression, bytes.NewReader(packed), int64(len(packed))); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", path, err)
	}
	return plain.Bytes(), nil
}
