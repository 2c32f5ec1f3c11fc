package elfdeps

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Bounds on what a hostile file may cost. Each is far above what linkers write.
const (
	maxInterp = 4096
	maxNote   = 1 << 20
	maxNeeded = 4096
)

// An object is what the loader reads in an ELF file.
type object struct {
	class     elf.Class
	machine   elf.Machine
	interp    string
	soname    string
	needed    []string
	rpath     []string // without meaning if there is a runpath
	runpath   []string
	noDefault bool // DF_1_NODEFLIB: no ld.so.conf and no default folders
	opened    []wish
}

// A wish is a library that a program opens while it runs.
type wish struct {
	sonames  []string // alternatives, the best first
	required bool
}

// readObject reads a file of the host. The error is ErrNotELF for what begins like no ELF file.
func readObject(file string) (*object, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", file, ErrNotELF)
	}
	o, err := parse(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return o, nil
}

// parse reads an ELF file.
func parse(r io.ReaderAt) (*object, error) {
	var magic [4]byte
	if _, err := r.ReadAt(magic[:], 0); err != nil || string(magic[:]) != elf.ELFMAG {
		return nil, ErrNotELF
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("damaged ELF file: %w", err)
	}
	o := &object{class: f.Class, machine: f.Machine}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			name, err := io.ReadAll(io.LimitReader(p.Open(), maxInterp))
			if err != nil {
				return nil, fmt.Errorf("damaged ELF file: interpreter: %w", err)
			}
			o.interp, _, _ = strings.Cut(string(name), "\x00")
		}
	}
	if f.SectionByType(elf.SHT_DYNAMIC) == nil {
		return o, nil
	}
	if err := o.readDynamic(f); err != nil {
		return nil, fmt.Errorf("damaged ELF file: dynamic section: %w", err)
	}
	if o.opened, err = dlopenNotes(f); err != nil {
		return nil, fmt.Errorf("damaged ELF file: .note.dlopen: %w", err)
	}
	if callsUnwinder(f) {
		o.opened = append(o.opened, wish{sonames: []string{"libgcc_s.so.1"}})
	}
	return o, nil
}

// readDynamic reads the entries of the dynamic section that name other files.
func (o *object) readDynamic(f *elf.File) error {
	var err error
	if o.needed, err = f.DynString(elf.DT_NEEDED); err != nil {
		return err
	}
	if len(o.needed) > maxNeeded {
		return fmt.Errorf("needs %d libraries", len(o.needed))
	}
	soname, err := f.DynString(elf.DT_SONAME)
	if err != nil {
		return err
	}
	if len(soname) > 0 {
		o.soname = soname[0]
	}
	for tag, list := range map[elf.DynTag]*[]string{elf.DT_RPATH: &o.rpath, elf.DT_RUNPATH: &o.runpath} {
		paths, err := f.DynString(tag)
		if err != nil {
			return err
		}
		for _, p := range paths {
			*list = append(*list, strings.Split(p, ":")...)
		}
		*list = slices.DeleteFunc(*list, func(dir string) bool { return dir == "" })
	}
	flags, err := f.DynValue(elf.DT_FLAGS_1)
	if err != nil {
		return err
	}
	o.noDefault = len(flags) > 0 && elf.DynFlag1(flags[0])&elf.DF_1_NODEFLIB != 0
	return nil
}

// dlopenNotes reads the notes of owner "FDO" and type 0x407c0c0a, each of which is a JSON array.
func dlopenNotes(f *elf.File) ([]wish, error) {
	s := f.Section(".note.dlopen")
	if s == nil || s.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	data, err := io.ReadAll(io.LimitReader(s.Open(), maxNote))
	if err != nil {
		return nil, err
	}
	var wishes []wish
	for len(data) >= 12 {
		nameSize, descSize, kind := f.ByteOrder.Uint32(data), f.ByteOrder.Uint32(data[4:]), f.ByteOrder.Uint32(data[8:])
		name, rest, ok := cutAligned(data[12:], nameSize)
		if !ok {
			return nil, errors.New("cut short")
		}
		desc, rest, ok := cutAligned(rest, descSize)
		if !ok {
			return nil, errors.New("cut short")
		}
		data = rest
		const dlopen = 0x407c0c0a
		if kind != dlopen || string(bytes.TrimRight(name, "\x00")) != "FDO" {
			continue
		}
		more, err := parseDlopen(bytes.TrimRight(desc, "\x00"))
		if err != nil {
			return nil, err
		}
		wishes = append(wishes, more...)
	}
	return wishes, nil
}

// cutAligned takes n bytes off data, and what pads them to a multiple of four.
func cutAligned(data []byte, n uint32) (head, rest []byte, ok bool) {
	if uint64(n) > uint64(len(data)) {
		return nil, nil, false
	}
	padded := min((uint64(n)+3)&^3, uint64(len(data)))
	return data[:n], data[padded:], true
}

// parseDlopen reads one note. What is only suggested is left out: an initramfs does without.
func parseDlopen(text []byte) ([]wish, error) {
	var entries []struct {
		Priority string   `json:"priority"`
		Soname   []string `json:"soname"`
	}
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, err
	}
	var wishes []wish
	for _, e := range entries {
		if e.Priority == "suggested" || len(e.Soname) == 0 {
			continue
		}
		wishes = append(wishes, wish{sonames: e.Soname, required: e.Priority == "required"})
	}
	return wishes, nil
}

// callsUnwinder reports whether an object ends threads in a way for which glibc opens libgcc_s.so.1, and aborts without it.
func callsUnwinder(f *elf.File) bool {
	symbols, err := f.ImportedSymbols()
	if err != nil {
		return false // an object without dynamic symbols imports nothing
	}
	return slices.ContainsFunc(symbols, func(s elf.ImportedSymbol) bool {
		return s.Name == "pthread_cancel" || s.Name == "pthread_exit"
	})
}
