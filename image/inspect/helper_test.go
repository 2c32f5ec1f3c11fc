package inspect

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hapax/image/archive"
)

// A rec is one record of an archive made by hand, so that it can be wrong.
type rec struct {
	name    string
	mode    uint32 // as stat(2) has it
	content string
	inode   uint32
	links   uint32
	rdev    [2]uint32
	size    uint32 // instead of the content's, if it is not 0
}

const (
	regular = 0o100644
	program = 0o100755
	folder  = 0o040755
	symlink = 0o120777
	node    = 0o020600
)

func (r rec) String() string {
	pad := func(s string) string { return s + strings.Repeat("\x00", -len(s)&3) }
	head := "070701"
	for _, field := range []uint32{
		r.inode, r.mode, 0, 0, max(r.links, 1), 0, cmp.Or(r.size, uint32(len(r.content))), 0, 0, r.rdev[0], r.rdev[1], uint32(len(r.name) + 1), 0,
	} {
		head += fmt.Sprintf("%08x", field)
	}
	return pad(head+r.name+"\x00") + pad(r.content)
}

// newc returns an archive of the records.
func newc(records ...rec) string {
	var b strings.Builder
	for _, r := range append(records, rec{name: "TRAILER!!!"}) {
		b.WriteString(r.String())
	}
	return b.String()
}

// section returns a content in memory.
func section(content string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(content), 0, int64(len(content)))
}

// open returns a Source of an image in memory.
func open(t testing.TB, image string) *Source {
	t.Helper()
	s, err := newSource(t.Context(), "image", section(image), "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func read(t testing.TB, image string, o Options) *Tree {
	t.Helper()
	tree, err := Read(open(t, image), o)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// squeeze compresses an archive.
func squeeze(t testing.TB, c archive.Compression, plain string) string {
	t.Helper()
	var b bytes.Buffer
	z, err := archive.NewCompressor(&b, c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(z, plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// files maps names to contents: what ends with a slash is a folder, what begins with "->" a link.
type files map[string]string

// records returns the files in the order of a builder, with the folders above them.
func (f files) records() []rec {
	all := map[string]rec{}
	for name, content := range f {
		r := rec{name: name, mode: program, content: content}
		switch {
		case strings.HasSuffix(name, "/"):
			r = rec{name: strings.TrimSuffix(name, "/"), mode: folder}
		case strings.HasPrefix(content, "->"):
			r.mode, r.content = symlink, content[2:]
		}
		all[r.name] = r
		for dir := filepath.Dir(r.name); dir != "."; dir = filepath.Dir(dir) {
			if _, ok := all[dir]; !ok {
				all[dir] = rec{name: dir, mode: folder}
			}
		}
	}
	var list []rec
	for _, r := range all {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b rec) int { return strings.Compare(a.name, b.name) })
	return list
}

// staticELF returns the smallest program that elf.NewFile takes.
func staticELF(machine elf.Machine) string {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64, Phentsize: 56, Shentsize: 64,
	})
	return b.String()
}

// dynamicELF returns a program with a loader.
func dynamicELF(loader string) string {
	var b bytes.Buffer
	h := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64,
	}
	binary.Write(&b, binary.LittleEndian, h)
	size := uint64(len(loader) + 1)
	binary.Write(&b, binary.LittleEndian, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 64 + 56, Filesz: size, Memsz: size})
	b.WriteString(loader + "\x00")
	return b.String()
}

// module returns what is read of a kernel module: the start of an ELF file, and the strings of .modinfo.
func module(info ...string) string {
	return "\x7fELF" + strings.Repeat("\x01", 60) + "\x00" + strings.Join(info, "\x00") + "\x00\x01\x02"
}

// tree lists what is below a folder of the host: mode, name, and a link's target or a file's content.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, file)
		line := fmt.Sprintf("%v %s", info.Mode(), name)
		switch info.Mode().Type() {
		case 0:
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			line += " = " + string(content)
		case fs.ModeSymlink:
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		list = append(list, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
