package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"fmt"

	"hapax/image/sparse"
)

const (
	pageSize = 4096
	// maxProgram is how long an EFI program may be: its offsets are 32-bit numbers, and firmware reads it into memory
	// in one piece.
	maxProgram = 2 << 30

	fileHeaderSize     = 20
	optionalHeaderSize = 240 // with all sixteen data directories
	sectionHeaderSize  = 40
	directories        = 16
	checksumAt         = 64 // in the optional header
)

// assemble lays out the stub with more sections. The file is written anew, so that the table of sections has the room that
// it needs: the sections of the stub keep their addresses, but not their place in the file. Symbols, debug data and an
// old signature are left behind.
func (s *stub) assemble(added []section) (*sparse.Image, error) {
	added = append(s.extra, added...)
	all := append(s.sections[:len(s.sections):len(s.sections)], added...)
	if len(all) > maxSections {
		return nil, fmt.Errorf("uki: there are %d sections: use at most %d", len(all), maxSections)
	}
	file, memory := uint64(s.optional.FileAlignment), uint64(max(s.optional.SectionAlignment, pageSize))
	head := alignUp(uint64(len(s.dos)+len(peMagic)+fileHeaderSize+optionalHeaderSize+sectionHeaderSize*len(all)), file)
	if head > uint64(s.sections[0].address) {
		return nil, fmt.Errorf("stub: no room for a table of %d sections before the first one at %#x", len(all), s.sections[0].address)
	}
	end := s.sections[len(s.sections)-1].end()
	for i := range added {
		c := &all[len(s.sections)+i]
		address, size := alignUp(end, memory), uint64(c.fileSize())
		if end = address + size; end > maxProgram {
			return nil, fmt.Errorf("uki: with %s it has more than 2 GiB", c.name)
		}
		c.address, c.size = uint32(address), uint32(size)
		s.optional.SizeOfInitializedData += uint32(alignUp(size, file))
	}
	s.optional.SizeOfHeaders = uint32(head)
	s.optional.SizeOfImage = uint32(alignUp(end, uint64(s.optional.SectionAlignment)))
	return s.lay(all, head, file)
}

// lay writes the sections one behind the other and the head that describes them.
func (s *stub) lay(all []section, head, alignment uint64) (*sparse.Image, error) {
	end := head
	headers := make([]pe.SectionHeader32, len(all))
	for i, c := range all {
		size := alignUp(uint64(c.fileSize()), alignment)
		headers[i] = pe.SectionHeader32{
			VirtualSize: c.size, VirtualAddress: c.address, SizeOfRawData: uint32(size), PointerToRawData: uint32(end),
			Characteristics: c.characteristics,
		}
		if size == 0 {
			headers[i].PointerToRawData = 0
		}
		copy(headers[i].Name[:], c.name)
		end += size
	}
	image := sparse.New(int64(end))
	for i, c := range all {
		at := int64(headers[i].PointerToRawData)
		for _, content := range c.content {
			image.PutReader(at, content)
			at += content.Size()
		}
	}
	header := s.header(headers)
	image.Put(0, header)
	sum, err := checksum(image.Reader())
	if err != nil {
		return nil, fmt.Errorf("uki: %w", err)
	}
	binary.LittleEndian.PutUint32(header[s.checksumAt():], sum)
	return image, nil
}

// checksumAt returns the offset of the file's checksum.
func (s *stub) checksumAt() int { return len(s.dos) + len(peMagic) + fileHeaderSize + checksumAt }

// header returns the head of the file, whose checksum is still 0.
func (s *stub) header(sections []pe.SectionHeader32) []byte {
	s.file.NumberOfSections = uint16(len(sections))
	s.file.TimeDateStamp = 0
	s.file.PointerToSymbolTable, s.file.NumberOfSymbols = 0, 0
	s.file.SizeOfOptionalHeader = optionalHeaderSize
	s.optional.NumberOfRvaAndSizes = directories
	s.optional.CheckSum = 0
	for _, i := range []int{pe.IMAGE_DIRECTORY_ENTRY_SECURITY, pe.IMAGE_DIRECTORY_ENTRY_DEBUG} {
		s.optional.DataDirectory[i] = pe.DataDirectory{}
	}
	var b bytes.Buffer
	b.Write(s.dos)
	b.WriteString(peMagic)
	for _, part := range []any{s.file, s.optional, sections} {
		// A buffer takes everything, and the parts have a fixed size.
		_ = binary.Write(&b, binary.LittleEndian, part)
	}
	return b.Bytes()
}

// fileSize returns how many bytes of content a section has.
func (s section) fileSize() int64 {
	size := int64(0)
	for _, content := range s.content {
		size += content.Size()
	}
	return size
}

func alignUp(n, alignment uint64) uint64 { return (n + alignment - 1) &^ (alignment - 1) }
