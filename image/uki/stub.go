package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Limits for a stub. systemd's is below 200 kB.
const (
	maxStub      = 16 << 20
	maxStubImage = 64 << 20 // in memory
	maxPEOffset  = 4096
	maxSections  = 96 // as Windows takes it
	maxAlignment = 2 << 20
)

// Offsets in the head of a PE file.
const (
	peOffsetAt = 0x3c
	peMagic    = "PE\x00\x00"
)

// A stub is systemd's EFI stub, taken apart.
type stub struct {
	dos      []byte // all before the PE header
	file     pe.FileHeader
	optional pe.OptionalHeader64
	sections []section
	version  int       // the number of the systemd release
	extra    []section // to add before all others
}

// A section is a part of a PE file.
type section struct {
	name            string
	address         uint32 // in memory
	size            uint32 // in memory
	characteristics uint32
	content         []*io.SectionReader // one after the other
}

// end returns the address behind a section.
func (s section) end() uint64 { return uint64(s.address) + uint64(s.size) }

// readStub takes a stub apart. What it returns has been checked: sections lie in the file, apart from each other and in
// order, and there is nothing that an added section would contradict.
func readStub(r *io.SectionReader) (*stub, error) {
	f, optional, err := readPE(r, maxStub)
	if err != nil {
		return nil, err
	}
	s := &stub{file: f.FileHeader, optional: *optional}
	if err := s.checkHeader(); err != nil {
		return nil, err
	}
	if s.dos, err = beforePE(r); err != nil {
		return nil, err
	}
	for i, header := range f.Sections {
		if err := s.addSection(r, header.SectionHeader); err != nil {
			return nil, fmt.Errorf("section %d %q: %w", i, header.Name, err)
		}
	}
	if err := s.checkSections(); err != nil {
		return nil, err
	}
	if s.version, err = systemdVersion(r); err != nil {
		return nil, err
	}
	return s, nil
}

// readPE reads the headers of a 64-bit EFI application of at most limit bytes.
func readPE(r *io.SectionReader, limit int64) (*pe.File, *pe.OptionalHeader64, error) {
	if r.Size() > limit {
		return nil, nil, fmt.Errorf("its %d bytes are more than %d", r.Size(), limit)
	}
	magic := make([]byte, 2)
	if _, err := r.ReadAt(magic, 0); err != nil || string(magic) != "MZ" {
		return nil, nil, errors.New("it is no PE file")
	}
	f, err := pe.NewFile(r)
	if err != nil {
		return nil, nil, fmt.Errorf("it is no PE file: %w", err)
	}
	optional, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		return nil, nil, errors.New("it is not a 64-bit PE file")
	}
	if optional.Subsystem != pe.IMAGE_SUBSYSTEM_EFI_APPLICATION {
		return nil, nil, fmt.Errorf("it is no EFI application but one for subsystem %d", optional.Subsystem)
	}
	return f, optional, nil
}

// beforePE returns the part of the file before the PE header.
func beforePE(r io.ReaderAt) ([]byte, error) {
	var at [4]byte
	if _, err := r.ReadAt(at[:], peOffsetAt); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(at[:])
	if size < peOffsetAt+4 || size > maxPEOffset || size%8 != 0 {
		return nil, fmt.Errorf("its PE header is at %#x", size)
	}
	dos := make([]byte, size)
	if _, err := r.ReadAt(dos, 0); err != nil {
		return nil, err
	}
	return dos, nil
}

// checkHeader refuses alignments and data directories that no linker makes.
func (s *stub) checkHeader() error {
	o := &s.optional
	power := func(n uint32) bool { return n != 0 && n&(n-1) == 0 }
	switch {
	case archOf(s.file.Machine) == "":
		return fmt.Errorf("it is for the machine %#x, which is neither amd64 nor arm64", s.file.Machine)
	case !power(o.FileAlignment) || o.FileAlignment < 512 || o.FileAlignment > 64<<10:
		return fmt.Errorf("its file alignment is %d", o.FileAlignment)
	case !power(o.SectionAlignment) || o.SectionAlignment < o.FileAlignment || o.SectionAlignment > maxAlignment:
		return fmt.Errorf("its section alignment is %d", o.SectionAlignment)
	case o.SizeOfImage > maxStubImage:
		return fmt.Errorf("it takes %d bytes in memory", o.SizeOfImage)
	case o.NumberOfRvaAndSizes > uint32(len(o.DataDirectory)):
		return fmt.Errorf("it has %d data directories", o.NumberOfRvaAndSizes)
	}
	for i, d := range o.DataDirectory {
		if i != pe.IMAGE_DIRECTORY_ENTRY_SECURITY && uint64(d.VirtualAddress)+uint64(d.Size) > uint64(o.SizeOfImage) {
			return fmt.Errorf("its data directory %d lies beyond its end", i)
		}
	}
	return nil
}

// addSection takes over one section of the file.
func (s *stub) addSection(r *io.SectionReader, h pe.SectionHeader) error {
	before := uint64(s.optional.SizeOfHeaders)
	if n := len(s.sections); n > 0 {
		before = s.sections[n-1].end()
	}
	size := h.VirtualSize
	switch {
	case len(s.sections) == maxSections:
		return fmt.Errorf("there are more than %d", maxSections)
	case h.NumberOfRelocations != 0 || h.NumberOfLineNumbers != 0:
		return errors.New("it has relocations of its own")
	case len(h.Name) > 8:
		return errors.New("its name is longer than 8 bytes")
	case size == 0:
		return errors.New("it is empty in memory")
	case uint64(h.VirtualAddress) < before:
		return fmt.Errorf("its address %#x lies within what is before it, which ends at %#x", h.VirtualAddress, before)
	case uint64(h.VirtualAddress)+uint64(size) > uint64(s.optional.SizeOfImage):
		return errors.New("it lies beyond the end in memory")
	case h.Size != 0 && (h.Offset < s.optional.SizeOfHeaders || int64(h.Offset)+int64(h.Size) > r.Size()):
		return errors.New("it lies beyond the end of the file or in its head")
	}
	content := io.NewSectionReader(r, int64(h.Offset), int64(min(h.Size, size)))
	s.sections = append(s.sections, section{h.Name, h.VirtualAddress, size, h.Characteristics, []*io.SectionReader{content}})
	return nil
}

// checkSections looks for what a stub must have and what only a finished image has.
func (s *stub) checkSections() error {
	executable := false
	for _, c := range s.sections {
		entry := uint64(s.optional.AddressOfEntryPoint)
		if c.characteristics&pe.IMAGE_SCN_MEM_EXECUTE != 0 && uint64(c.address) <= entry && entry < c.end() {
			executable = true
		}
		switch c.name {
		case nameLinux, nameInitrd, nameCmdline, nameUname, nameSplash, nameUcode, nameProfile:
			return fmt.Errorf("it has a section %s already, so it is a finished image: give the stub alone", c.name)
		}
	}
	if !executable {
		return fmt.Errorf("its entry point %#x is in no executable section", s.optional.AddressOfEntryPoint)
	}
	return nil
}

// systemdVersion reads the release from the text that says which loader or stub this is. It has a section .sdmagic, but for stubs that
// objcopy has made, as those for arm64 before systemd 254: there it lies behind all sections.
func systemdVersion(r *io.SectionReader) (int, error) {
	const prefix = "#### LoaderInfo: systemd-stub "
	data := make([]byte, r.Size()) // maxStub at most
	if _, err := r.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if at := bytes.Index(data, []byte(prefix)); at >= 0 {
		rest := data[at+len(prefix):]
		digits := rest[:len(rest)-len(bytes.TrimLeft(rest, "0123456789"))]
		if version, err := strconv.Atoi(string(digits)); err == nil {
			return version, nil
		}
	}
	return 0, fmt.Errorf("it does not say %q with a number, so it is not systemd's stub", prefix)
}

// archOf returns the Go name of a PE machine, "" for others than amd64 and arm64.
func archOf(machine uint16) string {
	switch machine {
	case pe.IMAGE_FILE_MACHINE_AMD64:
		return "amd64"
	case pe.IMAGE_FILE_MACHINE_ARM64:
		return "arm64"
	}
	return ""
}
