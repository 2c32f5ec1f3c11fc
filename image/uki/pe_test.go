package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"io"
	"testing"
)

// A fakePE is a PE file for tests. What is zero gets what a linker would write.
type fakePE struct {
	machine  uint16
	file     func(*pe.FileHeader)
	optional func(*pe.OptionalHeader64)
	sections []fakeSection
	tail     []byte
}

type fakeSection struct {
	name    string
	address uint32
	data    string
	flags   uint32
	change  func(*pe.SectionHeader32)
}

const (
	code = pe.IMAGE_SCN_CNT_CODE | pe.IMAGE_SCN_MEM_READ | pe.IMAGE_SCN_MEM_EXECUTE
	data = pe.IMAGE_SCN_CNT_INITIALIZED_DATA | pe.IMAGE_SCN_MEM_READ
)

// bytes returns the file: 512 bytes of head, then the sections.
func (f fakePE) bytes(t testing.TB) []byte {
	t.Helper()
	const head, alignment = 512, 512
	if f.machine == 0 {
		f.machine = pe.IMAGE_FILE_MACHINE_AMD64
	}
	file := pe.FileHeader{
		Machine: f.machine, NumberOfSections: uint16(len(f.sections)), SizeOfOptionalHeader: optionalHeaderSize,
		Characteristics: pe.IMAGE_FILE_EXECUTABLE_IMAGE,
	}
	optional := pe.OptionalHeader64{
		Magic: 0x20b, AddressOfEntryPoint: 0x1000, SectionAlignment: 4096, FileAlignment: alignment, SizeOfHeaders: head,
		SizeOfImage: 0x10000, Subsystem: pe.IMAGE_SUBSYSTEM_EFI_APPLICATION, NumberOfRvaAndSizes: directories,
	}
	var headers []pe.SectionHeader32
	var content bytes.Buffer
	for _, s := range f.sections {
		h := pe.SectionHeader32{
			VirtualSize: uint32(len(s.data)), VirtualAddress: s.address, SizeOfRawData: uint32(alignUp(uint64(len(s.data)), alignment)),
			PointerToRawData: uint32(head + content.Len()), Characteristics: s.flags,
		}
		copy(h.Name[:], s.name)
		content.WriteString(s.data)
		content.Write(make([]byte, -content.Len()&(alignment-1)))
		if s.change != nil {
			s.change(&h)
		}
		headers = append(headers, h)
	}
	if f.file != nil {
		f.file(&file)
	}
	if f.optional != nil {
		f.optional(&optional)
	}
	var b bytes.Buffer
	dos := make([]byte, 64)
	copy(dos, "MZ")
	dos[peOffsetAt] = 64
	b.Write(dos)
	b.WriteString(peMagic)
	for _, part := range []any{file, optional, headers} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	b.Write(make([]byte, max(head-b.Len(), 0)))
	b.Write(content.Bytes())
	b.Write(f.tail)
	return b.Bytes()
}

// fakeStub returns what a stub of a systemd release looks like.
func fakeStub(version string) fakePE {
	return fakePE{sections: []fakeSection{
		{name: ".text", address: 0x1000, data: "code of the stub", flags: code},
		{name: ".sbat", address: 0x2000, data: "sbat,1,SBAT Version,sbat,1,url\nsystemd,1,x,systemd,1,url\n\x00", flags: data},
		{name: ".sdmagic", address: 0x2100, data: "#### LoaderInfo: systemd-stub " + version + " ####\x00", flags: data},
		{name: ".data", address: 0x3000, data: "data of the stub", flags: data},
	}}
}

// fakeKernel returns what a kernel looks like from here.
func fakeKernel() fakePE {
	return fakePE{sections: []fakeSection{{name: ".text", address: 0x1000, data: "code of the kernel", flags: code}}}
}

func reader(data []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))
}

// fakeSpec returns a spec with a stub of a systemd release.
func fakeSpec(t testing.TB, version string) Spec {
	t.Helper()
	return Spec{
		Stub: reader(fakeStub(version).bytes(t)), Kernel: reader(fakeKernel().bytes(t)), Initrd: stringReader("initramfs"),
		Cmdline: "quiet", OSRelease: "ID=hapax\n", Uname: "6.1.0",
	}
}
