package elfdeps

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An image describes an ELF file to make: nothing in it runs, but every reader takes it for what it says.
type image struct {
	machine elf.Machine // default x86-64
	interp  string
	soname  string
	needed  []string
	rpath   string
	runpath string
	flags1  elf.DynFlag1
	dlopen  string   // JSON of a .note.dlopen
	imports []string // undefined symbols
}

// bytes returns the file.
func (im image) bytes() []byte {
	order := binary.LittleEndian
	if im.machine == 0 {
		im.machine = elf.EM_X86_64
	}
	strs := "\x00"
	str := func(s string) uint64 {
		at := uint64(len(strs))
		strs += s + "\x00"
		return at
	}
	var dynamic []byte
	dyn := func(tag elf.DynTag, value uint64) {
		dynamic = order.AppendUint64(order.AppendUint64(dynamic, uint64(tag)), value)
	}
	for _, n := range im.needed {
		dyn(elf.DT_NEEDED, str(n))
	}
	for tag, s := range map[elf.DynTag]string{elf.DT_SONAME: im.soname, elf.DT_RPATH: im.rpath, elf.DT_RUNPATH: im.runpath} {
		if s != "" {
			dyn(tag, str(s))
		}
	}
	if im.flags1 != 0 {
		dyn(elf.DT_FLAGS_1, uint64(im.flags1))
	}
	dyn(elf.DT_NULL, 0)
	symbols := make([]byte, 24) // the first is always empty
	for _, name := range im.imports {
		s := order.AppendUint32(nil, uint32(str(name)))
		symbols = append(symbols, append(s, 1<<4|2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)...) // global function
	}
	type section struct {
		name    string
		kind    elf.SectionType
		content []byte
		link    uint32
		entry   uint64
	}
	sections := []section{
		{},
		{name: ".dynstr", kind: elf.SHT_STRTAB, content: []byte(strs)},
		{name: ".dynamic", kind: elf.SHT_DYNAMIC, content: dynamic, link: 1, entry: 16},
		{name: ".dynsym", kind: elf.SHT_DYNSYM, content: symbols, link: 1, entry: 24},
	}
	if im.dlopen != "" {
		note := noteBytes(order, "FDO", 0x407c0c0a, []byte(im.dlopen+"\x00"))
		sections = append(sections, section{name: ".note.dlopen", kind: elf.SHT_NOTE, content: note})
	}
	names := "\x00"
	var nameAt []uint32
	sections = append(sections, section{name: ".shstrtab", kind: elf.SHT_STRTAB})
	for _, s := range sections {
		nameAt = append(nameAt, uint32(len(names)))
		names += s.name + "\x00"
	}
	sections[len(sections)-1].content = []byte(names)

	const header, program = 64, 56
	var body bytes.Buffer
	body.WriteString(im.interp + "\x00")
	var table []byte
	for i, s := range sections {
		for body.Len()%8 != 0 {
			body.WriteByte(0)
		}
		offset := uint64(header + program + body.Len())
		body.Write(s.content)
		table = order.AppendUint32(table, nameAt[i])
		table = order.AppendUint32(table, uint32(s.kind))
		for _, v := range []uint64{0, 0, offset, uint64(len(s.content))} { // flags, address, offset, size
			table = order.AppendUint64(table, v)
		}
		table = order.AppendUint32(order.AppendUint32(table, s.link), 0)
		table = order.AppendUint64(order.AppendUint64(table, 1), s.entry)
	}
	programs := uint16(1)
	if im.interp == "" {
		programs = 0
	}
	out := []byte(elf.ELFMAG + "\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	out = order.AppendUint16(out, uint16(elf.ET_DYN))
	out = order.AppendUint16(out, uint16(im.machine))
	out = order.AppendUint32(out, 1)
	out = order.AppendUint64(out, 0)                                 // entry
	out = order.AppendUint64(out, header)                            // program headers
	out = order.AppendUint64(out, uint64(header+program+body.Len())) // section headers
	out = order.AppendUint32(out, 0)                                 // flags
	for _, v := range []uint16{header, program, programs, 64, uint16(len(sections)), uint16(len(sections) - 1)} {
		out = order.AppendUint16(out, v)
	}
	out = order.AppendUint32(out, uint32(elf.PT_INTERP))
	out = order.AppendUint32(out, uint32(elf.PF_R))
	for _, v := range []uint64{header + program, 0, 0, uint64(len(im.interp) + 1), uint64(len(im.interp) + 1), 1} {
		out = order.AppendUint64(out, v)
	}
	return append(append(out, body.Bytes()...), table...)
}

// makeRoot makes a root of files, "-> TARGET" for links. ELF files are in images.
func makeRoot(t *testing.T, files map[string]string, images map[string]image) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, content []byte) {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(string(content), "-> "); ok {
			err = os.Symlink(target, file)
		} else {
			err = os.WriteFile(file, content, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		write(name, []byte(content))
	}
	for name, im := range images {
		write(name, im.bytes())
	}
	return dir
}

// noteBytes encodes one note as it stands in an ELF file.
func noteBytes(order binary.AppendByteOrder, owner string, kind uint32, desc []byte) []byte {
	var b []byte
	b = order.AppendUint32(b, uint32(len(owner)+1))
	b = order.AppendUint32(b, uint32(len(desc)))
	b = order.AppendUint32(b, kind)
	b = append(b, owner...)
	b = append(b, make([]byte, 4-len(owner)%4)...)
	b = append(b, desc...)
	return append(b, make([]byte, (4-len(desc)%4)%4)...)
}
