package switchroot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// native is the machine of this test.
func native() machine { return machines(runtime.GOARCH)[0] }

// elfFile returns a 64-bit ELF file with the program headers PT_LOAD and, if interp is not "", PT_INTERP.
func elfFile(m machine, kind uint16, interp string) []byte {
	le := binary.LittleEndian
	b := make([]byte, 64+2*56)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], kind)
	le.PutUint16(b[18:], m.number)
	le.PutUint64(b[32:], 64) // e_phoff
	le.PutUint16(b[54:], 56) // e_phentsize
	le.PutUint16(b[56:], 2)  // e_phnum
	le.PutUint32(b[64:], 1)  // PT_LOAD
	if interp != "" {
		h := b[64+56:]
		le.PutUint32(h, 3) // PT_INTERP
		le.PutUint64(h[8:], uint64(len(b)))
		le.PutUint64(h[32:], uint64(len(interp)+1))
		b = append(append(b, interp...), 0)
	}
	return b
}

// elf32 returns a 32-bit one.
func elf32(number uint16, interp string) []byte {
	le := binary.LittleEndian
	b := make([]byte, 52+32)
	copy(b, "\x7fELF\x01\x01\x01")
	le.PutUint16(b[16:], 3)
	le.PutUint16(b[18:], number)
	le.PutUint32(b[28:], 52)
	le.PutUint16(b[42:], 32)
	le.PutUint16(b[44:], 1)
	le.PutUint32(b[52:], 3)
	le.PutUint32(b[52+4:], uint32(len(b)))
	le.PutUint32(b[52+16:], uint32(len(interp)+1))
	return append(append(b, interp...), 0)
}

func TestReadProgramELF(t *testing.T) {
	t.Parallel()
	const loader = "/lib64/ld-linux-x86-64.so.2"
	change := func(at int, to ...byte) []byte {
		b := elfFile(native(), 3, loader)
		copy(b[at:], to)
		return b
	}
	second := 64 + 56 // where PT_INTERP's header is
	for _, tt := range []struct {
		name   string
		file   []byte
		interp string
		err    string // "" for none
	}{
		{"static", elfFile(native(), 2, ""), "", ""},
		{"static, position-independent", elfFile(native(), 3, ""), "", ""},
		{"dynamic", elfFile(native(), 3, loader), loader, ""},
		{"relocatable object", elfFile(native(), 1, ""), "", "ELF file of type 1: not a program"},
		{"core dump", elfFile(native(), 4, ""), "", "ELF file of type 4: not a program"},
		{"s390x", elfFile(machine{22, 64}, 2, ""), "", "for another architecture: ELF machine 22 with 64 bits, not for " + runtime.GOARCH},
		{"big-endian", change(5, 2), "", "ELF file of type 768: not a program"},
		{"unknown class", change(4, 9), "", "for another architecture"},
		{"header only", elfFile(native(), 2, "")[:64], "", "damaged ELF file"},
		{"part of a header", elfFile(native(), 2, "")[:40], "", "damaged ELF file"},
		{"no program headers", change(56, 0, 0), "", "damaged ELF file"},
		{"65535 program headers", change(56, 0xff, 0xff), "", "damaged ELF file"},
		{"headers far away", change(32, 0, 0, 0, 0, 0, 0, 0, 0x7f), "", "damaged ELF file"},
		{"headers at a negative offset", change(32, 0, 0, 0, 0, 0, 0, 0, 0xff), "", "damaged ELF file"},
		{"interpreter far away", change(second+8, 0, 0, 0, 0, 0, 0, 0, 0x7f), "", "damaged ELF file"},
		{"interpreter of 1 byte", change(second+32, 1), "", "damaged ELF file"},
		{"interpreter of 2^56 bytes", change(second+39, 1), "", "damaged ELF file"},
		{"interpreter without NUL", change(second+32, byte(len(loader))), "", "damaged ELF file"},
		{"interpreter of NULs", append(change(0)[:second+56], make([]byte, 64)...), "", "damaged ELF file"},
	} {
		p, err := readProgram(bytes.NewReader(tt.file))
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
		}
		if p.interpreter != tt.interp || p.script {
			t.Errorf("%s: %+v, want interpreter %q", tt.name, p, tt.interp)
		}
	}
}

func TestReadProgram32(t *testing.T) {
	t.Parallel()
	for _, m := range machines(runtime.GOARCH) {
		if m.bits != 32 {
			continue
		}
		p, err := readProgram(bytes.NewReader(elf32(m.number, "/lib/ld-linux.so.2")))
		if err != nil || p.interpreter != "/lib/ld-linux.so.2" || p.machine != m {
			t.Errorf("machine %d: %+v, %v", m.number, p, err)
		}
	}
	if _, err := readProgram(bytes.NewReader(elf32(8, "/lib/ld.so.1"))); err == nil {
		t.Error("a MIPS program passes")
	}
}

func TestReadProgramScript(t *testing.T) {
	t.Parallel()
	long := "#!/" + strings.Repeat("x", 300)
	for _, tt := range []struct{ name, file, interp, err string }{
		{"plain", "#!/bin/sh\necho\n", "/bin/sh", ""},
		{"spaces and an argument", "#! \t/usr/bin/env -S sh\n", "/usr/bin/env", ""},
		{"tab ends the name", "#!/bin/sh\t-e\n", "/bin/sh", ""},
		{"no newline", "#!/bin/sh", "/bin/sh", ""},
		{"NUL ends the name", "#!/bin/sh\x00x\n", "/bin/sh", ""},
		{"relative", "#!bin/sh\n", "bin/sh", ""},
		{"carriage return is part of the name", "#!/bin/sh\r\n", "/bin/sh\r", ""},
		{"long argument", "#!/bin/sh " + strings.Repeat("x", 300) + "\n", "/bin/sh", ""},
		{"long name", long + "\n", "", "does not end in the first 256 bytes"},
		{"name ends with the buffer", long[:256], "", "does not end in the first 256 bytes"},
		{"name ends before it", long[:255], long[2:255], ""},
		{"nothing", "#!", "", "names no interpreter"},
		{"only spaces", "#!  \n/bin/sh\n", "", "names no interpreter"},
		{"empty file", "", "", "the file is empty"},
		{"one byte", "#", "", "neither an ELF program nor a script"},
		{"text", "echo hello\n", "", "neither an ELF program nor a script"},
	} {
		p, err := readProgram(strings.NewReader(tt.file))
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
		}
		if p.interpreter != tt.interp || p.script != (tt.err == "") {
			t.Errorf("%s: %+v, want interpreter %q", tt.name, p, tt.interp)
		}
	}
}

type unreadable struct{}

func (unreadable) ReadAt([]byte, int64) (int, error) { return 0, syscall.EIO }

func TestReadProgramIOError(t *testing.T) {
	t.Parallel()
	if _, err := readProgram(unreadable{}); !errors.Is(err, unix.EIO) {
		t.Errorf("error %v, want EIO", err)
	}
}

// TestReadProgramItself reads a program that runs here for certain.
func TestReadProgramItself(t *testing.T) {
	t.Parallel()
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := readProgram(f)
	if err != nil || p.script || p.machine != native() {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestMachines(t *testing.T) {
	t.Parallel()
	for goarch, want := range map[string]machine{"amd64": {62, 64}, "arm64": {183, 64}, "riscv64": {243, 64}} {
		if got := machines(goarch); !slices.Contains(got, want) {
			t.Errorf("machines(%s) = %v, without %v", goarch, got, want)
		}
	}
	if got := machines("s390x"); got != nil {
		t.Errorf("machines(s390x) = %v; nothing is known of it", got)
	}
}

func FuzzReadProgram(f *testing.F) {
	f.Add(elfFile(native(), 3, "/lib/ld.so"))
	f.Add(elfFile(native(), 2, ""))
	f.Add(elf32(3, "/lib/ld.so"))
	f.Add([]byte("#! /bin/sh -e\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		r := &largest{r: bytes.NewReader(file)}
		p, err := readProgram(r)
		if r.n > maxHeaders {
			t.Errorf("a read of %d bytes", r.n)
		}
		if err != nil && p != (program{}) && p.interpreter != "" {
			t.Errorf("%+v beside %v", p, err)
		}
		if strings.ContainsAny(p.interpreter, "\x00\n") && p.script || strings.Contains(p.interpreter, "\x00") {
			t.Errorf("interpreter %q", p.interpreter)
		}
	})
}

// A largest reader remembers its largest read.
type largest struct {
	r io.ReaderAt
	n int
}

func (l *largest) ReadAt(p []byte, off int64) (int, error) {
	l.n = max(l.n, len(p))
	return l.r.ReadAt(p, off)
}
