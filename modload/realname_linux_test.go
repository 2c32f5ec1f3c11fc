package modload

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"hapax/modload/modindex"
)

// moduleNamed returns a module file that has nothing but a .modinfo section.
func moduleNamed(t *testing.T, modinfo string) []byte {
	t.Helper()
	const names = "\x00.modinfo\x00.shstrtab\x00"
	const headerSize, sectionSize = 64, 64
	content := headerSize + uint64(len(modinfo))
	header := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1,
		Ehsize: headerSize, Shoff: content + uint64(len(names)), Shentsize: sectionSize, Shnum: 3, Shstrndx: 2,
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	var b bytes.Buffer
	for _, part := range []any{
		header, []byte(modinfo), []byte(names),
		elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: headerSize, Size: uint64(len(modinfo))},
		elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: content, Size: uint64(len(names))},
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

const namedReal = "license=GPL\x00name=real\x00vermagic=6.1.0 SMP\x00"

// renamed makes a Kernel whose file m.ko holds a module, and which answers EEXIST
// because it has the module live.
func renamed(t *testing.T, content []byte, live string) (*Kernel, modindex.Module) {
	t.Helper()
	s := &script{finit: []error{unix.EEXIST}}
	k, m := s.play(t)
	if err := os.WriteFile(filepath.Join(procFd(k.dir), m.Path), content, 0o644); err != nil {
		t.Fatal(err)
	}
	k.initstate = func(name string) string {
		if name == live {
			return "live"
		}
		return ""
	}
	return k, m
}

// EEXIST for a name that the kernel does not have: the module's own name decides.
func TestLoadOfRenamedFile(t *testing.T) {
	t.Parallel()
	file := moduleNamed(t, namedReal)
	tests := []struct {
		name    string
		content []byte
		unpacks string // what the kernel unpacks
		live    string
		want    State
		other   string // Result.Name
	}{
		{name: "live under its own name", content: file, live: "real", want: Live, other: "real"},
		{name: "not live either", content: file, want: Refused, other: "real"},
		{name: "the kernel unpacks it", content: pack(t, "zstd", file), unpacks: "zstd", live: "real", want: Live, other: "real"},
		{name: "the engine unpacks it", content: pack(t, "xz", file), live: "real", want: Live, other: "real"},
		{name: "the file's name is the module's", content: moduleNamed(t, "name=m\x00"), live: "real", want: Refused, other: "m"},
		{name: "a parameter that looks like it", content: moduleNamed(t, "parmname=real\x00"), live: "real", want: Refused},
		{name: "no name", content: moduleNamed(t, "license=GPL\x00"), live: "real", want: Refused},
		{name: "no module", content: moduleLike(1000), live: "real", want: Refused},
	}
	for _, tt := range tests {
		k, m := renamed(t, tt.content, tt.live)
		k.compression = tt.unpacks
		res := k.Load(Job{Module: m})
		duplicates := 0 // an init function that says EEXIST by itself is none
		if tt.want == Live {
			duplicates = 1
		}
		if got := outcome(res.Err); got != tt.want || res.Name != tt.other || res.Calls != 1 || res.Duplicates != duplicates {
			t.Errorf("%s: Load = %+v, want %v, the name %q, one call and %d duplicates", tt.name, res, tt.want, tt.other, duplicates)
		}
		if tt.want == Refused && !errors.Is(res.Err, unix.EEXIST) {
			t.Errorf("%s: error = %v, want EEXIST", tt.name, res.Err)
		}
	}
}

// An index of modules alone.
type plainIndex map[string]modindex.Module

func (x plainIndex) Lookup(query string) modindex.Hits {
	if _, ok := x[query]; !ok {
		return modindex.Hits{}
	}
	return modindex.Hits{Names: []string{query}}
}

func (x plainIndex) Module(name string) (modindex.Module, bool) {
	m, ok := x[name]
	return m, ok
}

// Once the other name has come to light the table answers to both, and a second
// file with the module costs no call. The script has an answer for one call.
func TestSchedulerLearnsTheOtherName(t *testing.T) {
	t.Parallel()
	k, m := renamed(t, moduleNamed(t, namedReal), "real")
	x := plainIndex{"m": m, "real": {Name: "real", Path: m.Path}, "user": {Name: "user", Path: m.Path, Deps: []string{"m"}}}
	load := k.Load
	s := New(Options{Index: x, Load: func(j Job) Result {
		if j.Module.Name == "user" {
			return Result{Calls: 1}
		}
		return load(j)
	}})
	for _, name := range []string{"m", "real", "user"} {
		if err := s.Load(t.Context(), name); err != nil {
			t.Errorf("Load(%s): %v", name, err)
		}
	}
	for _, name := range []string{"m", "real"} {
		if r, ok := s.Module(name); !ok || r.State != Live || r.Name != "m" {
			t.Errorf("Module(%s) = %+v, %v; want the live record of m", name, r, ok)
		}
	}
	if c := s.Counters(); c.Live != 2 || c.Finit != 2 || c.Duplicates != 1 {
		t.Errorf("counters %+v, want 2 calls for 2 modules, one of them a duplicate", c)
	}
}
