// Package vmlinuz reads what a kernel image tells of itself.
package vmlinuz

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"
)

// Release returns what a bzImage says that it is, the first word of kernel_version
// (Documentation/arch/x86/boot.rst), "" for other files.
func Release(r io.ReaderAt) string {
	const (
		magicAt   = 0x202
		versionAt = 0x20e
	)
	head := make([]byte, versionAt+2)
	if _, err := r.ReadAt(head, 0); err != nil || string(head[magicAt:magicAt+4]) != "HdrS" {
		return ""
	}
	offset := int64(binary.LittleEndian.Uint16(head[versionAt:]))
	if offset == 0 {
		return ""
	}
	text := make([]byte, 256)
	n, err := r.ReadAt(text, 0x200+offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	version, _, _ := strings.Cut(string(text[:n]), "\x00")
	release, _, _ := strings.Cut(version, " ")
	return release
}
