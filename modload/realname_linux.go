package modload

import (
	"bytes"
	"io"

	"golang.org/x/sys/unix"
)

// nameIn returns the name that a module gives itself in its .modinfo section,
// "" if it gives none. The kernel goes by that, and not by the name of the file.
func (k *Kernel) nameIn(f *file) string {
	var src io.ReaderAt = preader(f.fd)
	if f.flags&unix.MODULE_INIT_COMPRESSED_FILE != 0 {
		plain, _, err := k.unpack(f.fd, k.compression, f.size)
		if err != nil {
			return ""
		}
		defer unix.Close(plain)
		src = preader(plain)
	}
	info, err := ModuleSection(src, ".modinfo")
	if err != nil {
		return ""
	}
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		if name, ok := bytes.CutPrefix(entry, []byte("name=")); ok {
			return string(name)
		}
	}
	return ""
}
