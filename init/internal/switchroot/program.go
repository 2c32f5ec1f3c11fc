package switchroot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
)

// A machine is the kind of processor that an ELF file is for: e_machine and EI_CLASS.
type machine struct {
	number uint16
	bits   int
}

// machines returns what a kernel for goarch executes, with the 32-bit user space that distributions run
// under 64-bit kernels. nil means that nothing is known and any machine will do.
func machines(goarch string) []machine {
	switch goarch {
	case "amd64":
		return []machine{{62, 64}, {3, 32}}
	case "386":
		return []machine{{3, 32}}
	case "arm64":
		return []machine{{183, 64}, {40, 32}}
	case "arm":
		return []machine{{40, 32}}
	case "riscv64":
		return []machine{{243, 64}}
	}
	return nil
}

// A program is what the first bytes of an executable file say.
type program struct {
	script      bool
	interpreter string  // of a script, or PT_INTERP; "" if the program needs none
	machine     machine // of an ELF file
}

// Limits of the kernel.
const (
	scriptHead = 256     // BINPRM_BUF_SIZE: the first line has to end within
	maxHeaders = 1 << 16 // size of an ELF program header table (load_elf_phdrs)
	maxPath    = 4096    // PATH_MAX
)

// readProgram reads the head of an executable file the way the kernel does, with bounded reads whatever
// the file says of itself. The file may be hostile.
func readProgram(r io.ReaderAt) (program, error) {
	head := make([]byte, scriptHead)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return program{}, err
	}
	switch s := string(head[:n]); {
	case strings.HasPrefix(s, "#!"):
		return readScript(s[2:], n == scriptHead)
	case strings.HasPrefix(s, "\x7fELF"):
		return readELF(r, head[:n])
	case n == 0:
		return program{}, errors.New("the file is empty")
	}
	return program{}, errors.New("neither an ELF program nor a script with #!")
}

// readScript reads what follows "#!" (load_script in fs/binfmt_script.c). more says that the file goes on.
func readScript(s string, more bool) (program, error) {
	line, _, ended := strings.Cut(s, "\n")
	line = strings.TrimLeft(line, " \t")
	end := strings.IndexAny(line, " \t\x00")
	if end < 0 && !ended && more {
		return program{}, fmt.Errorf("the name of the script's interpreter does not end in the first %d bytes", scriptHead)
	}
	if end >= 0 {
		line = line[:end]
	}
	if line == "" {
		return program{}, errors.New("the script names no interpreter behind #!")
	}
	return program{script: true, interpreter: line}, nil
}

// errELF says that an ELF file is cut short or contradicts itself.
var errELF = errors.New("damaged ELF file")

// readELF reads the header and the program headers (struct elf64_hdr and elf64_phdr of elf.h, or their
// 32-bit forms). debug/elf would do too, for 300 KiB more of program.
func readELF(r io.ReaderAt, head []byte) (program, error) {
	const executable, shared = 2, 3 // e_type
	if len(head) < 64 {
		return program{}, errELF
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[5] == 2 { // EI_DATA
		order = binary.BigEndian
	}
	m := machine{number: order.Uint16(head[18:]), bits: 32 * int(head[4])}
	if kind := order.Uint16(head[16:]); kind != executable && kind != shared {
		return program{}, fmt.Errorf("ELF file of type %d: not a program", kind)
	}
	if known := machines(runtime.GOARCH); known != nil && (head[5] != 1 || !slices.Contains(known, m)) {
		return program{}, fmt.Errorf("for another architecture: ELF machine %d with %d bits, not for %s", m.number, m.bits, runtime.GOARCH)
	}

	var offset, size, count int64
	switch m.bits {
	case 64:
		offset, size, count = int64(order.Uint64(head[32:])), 56, int64(order.Uint16(head[56:]))
	case 32:
		offset, size, count = int64(order.Uint32(head[28:])), 32, int64(order.Uint16(head[44:]))
	default:
		return program{}, errELF
	}
	table, err := readAt(r, offset, size*count)
	if err != nil {
		return program{}, err
	}
	for h := range slices.Chunk(table, int(size)) {
		const interp = 3 // PT_INTERP
		if order.Uint32(h) != interp {
			continue
		}
		at, n := int64(order.Uint32(h[4:])), int64(order.Uint32(h[16:]))
		if m.bits == 64 {
			at, n = int64(order.Uint64(h[8:])), int64(order.Uint64(h[32:]))
		}
		name, err := readInterpreter(r, at, n)
		return program{machine: m, interpreter: name}, err
	}
	return program{machine: m}, nil
}

// readInterpreter reads the path of the dynamic loader, n bytes with a NUL at their end.
func readInterpreter(r io.ReaderAt, at, n int64) (string, error) {
	if n < 2 || n > maxPath {
		return "", errELF
	}
	b, err := readAt(r, at, n)
	if err != nil {
		return "", err
	}
	name, _, ended := strings.Cut(string(b), "\x00")
	if !ended || name == "" {
		return "", errELF
	}
	return name, nil
}

// readAt returns n bytes at offset, figures from the file.
func readAt(r io.ReaderAt, offset, n int64) ([]byte, error) {
	if offset < 0 || n <= 0 || n > maxHeaders {
		return nil, errELF
	}
	b := make([]byte, n)
	if got, err := r.ReadAt(b, offset); int64(got) != n {
		if err == nil || errors.Is(err, io.EOF) {
			err = errELF
		}
		return nil, err
	}
	return b, nil
}
