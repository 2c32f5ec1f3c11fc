package modload

import (
	"bytes"
	"encoding/binary"
	"io"

	"golang.org/x/sys/unix"
)

// What ModuleSection reads of a file at most. The largest .modinfo of Debian has
// 140 kB, with the aliases of a graphics driver; a module has some hundred sections.
const (
	maxSection = 4 << 20
	elfIdent   = 16 // EI_NIDENT
)

// ModuleSection returns what the first section of that name holds in a module
// file that is not packed, of either class and byte order. It reads the headers,
// as <elf.h> has Ehdr and Shdr, and the section; debug/elf would do too, for 300
// KiB more of program. The errors are those of libkmod: ENOEXEC for what is not
// ELF, EINVAL for what is damaged, ENODATA if there is no such section.
func ModuleSection(src io.ReaderAt, name string) ([]byte, error) {
	ident := make([]byte, elfIdent)
	if _, err := src.ReadAt(ident, 0); err != nil || !bytes.HasPrefix(ident, []byte("\x7fELF")) {
		return nil, unix.ENOEXEC
	}
	f := elfFile{src: src, order: binary.LittleEndian, word: 4}
	const wide, bigEndian = 2, 2 // ELFCLASS64, ELFDATA2MSB
	class, data := ident[4], ident[5]
	if class == 0 || class > wide || data == 0 || data > bigEndian {
		return nil, unix.EINVAL
	}
	if class == wide {
		f.word = 8
	}
	if data == bigEndian {
		f.order = binary.BigEndian
	}
	return f.find(name)
}

// An elfFile reads numbers of one class and byte order.
type elfFile struct {
	src   io.ReaderAt
	order binary.ByteOrder
	word  uint64 // size of an address
}

// find looks the section up in the table of sections.
func (f elfFile) find(name string) ([]byte, error) {
	// ident, type, machine, version, 3 addresses, flags, and six halves of which the last 3 are wanted
	header, err := f.read(0, elfIdent+8+3*f.word+16)
	if err != nil {
		return nil, err
	}
	table, tail := f.number(header[elfIdent+8+2*f.word:]), header[elfIdent+8+3*f.word+10:]
	entry, count, strings := f.half(tail), f.half(tail[2:]), f.half(tail[4:])
	size := 16 + 6*f.word // 4 words of 32 bits, and 6 of the class
	if entry != size || strings >= count {
		return nil, unix.EINVAL
	}
	headers, err := f.read(table, count*size)
	if err != nil {
		return nil, err
	}
	names, err := f.section(headers[strings*size:])
	if err != nil {
		return nil, err
	}
	want := []byte(name + "\x00")
	for i := uint64(1); i < count; i++ {
		h := headers[i*size:]
		if at := f.order.Uint32(h); uint64(at) < uint64(len(names)) && bytes.HasPrefix(names[at:], want) {
			return f.section(h)
		}
	}
	return nil, unix.ENODATA
}

func (f elfFile) half(b []byte) uint64 { return uint64(f.order.Uint16(b)) }

// number reads what has the size of an address.
func (f elfFile) number(b []byte) uint64 {
	if f.word == 8 {
		return f.order.Uint64(b)
	}
	return uint64(f.order.Uint32(b))
}

// section returns what the section with that header holds.
func (f elfFile) section(header []byte) ([]byte, error) {
	// name, type, flags, address, offset, size
	return f.read(f.number(header[8+2*f.word:]), f.number(header[8+3*f.word:]))
}

// read returns a part of the file that has to be there.
func (f elfFile) read(offset, size uint64) ([]byte, error) {
	if size > maxSection || offset > 1<<62 {
		return nil, unix.EINVAL
	}
	b := make([]byte, size)
	if _, err := f.src.ReadAt(b, int64(offset)); err != nil && (err != io.EOF || size > 0) {
		return nil, unix.EINVAL
	}
	return b, nil
}
