package uki

import (
	"bytes"
	"debug/pe"
	"os"
	"strings"
	"testing"
)

// A stub that is not as a linker makes it is refused with the reason.
func TestHostileStub(t *testing.T) {
	t.Parallel()
	type header = pe.SectionHeader32
	optional := func(change func(*pe.OptionalHeader64)) func(*fakePE) {
		return func(f *fakePE) { f.optional = change }
	}
	second := func(change func(*header)) func(*fakePE) {
		return func(f *fakePE) { f.sections[1].change = change }
	}
	for _, tt := range []struct {
		want   string
		change func(*fakePE)
	}{
		{"machine", func(f *fakePE) { f.machine = 0x14c }},
		{"subsystem 3", optional(func(o *pe.OptionalHeader64) { o.Subsystem = 3 })},
		{"file alignment", optional(func(o *pe.OptionalHeader64) { o.FileAlignment = 0 })},
		{"file alignment", optional(func(o *pe.OptionalHeader64) { o.FileAlignment = 513 })},
		{"section alignment", optional(func(o *pe.OptionalHeader64) { o.SectionAlignment = 256 })},
		{"section alignment", optional(func(o *pe.OptionalHeader64) { o.SectionAlignment = 1 << 31 })},
		{"in memory", optional(func(o *pe.OptionalHeader64) { o.SizeOfImage = 1<<32 - 1 })},
		{"beyond the end in memory", optional(func(o *pe.OptionalHeader64) { o.SizeOfImage = 0x2000 })},
		{"data directory 5", optional(func(o *pe.OptionalHeader64) {
			o.DataDirectory[5] = pe.DataDirectory{VirtualAddress: 1 << 31, Size: 1 << 31}
		})},
		{"entry point", optional(func(o *pe.OptionalHeader64) { o.AddressOfEntryPoint = 0x3000 })},
		{"lies within", optional(func(o *pe.OptionalHeader64) { o.SizeOfHeaders = 0x1001 })},
		{"lies within", second(func(h *header) { h.VirtualAddress = 0x1008 })},
		{"lies within", second(func(h *header) { h.VirtualAddress = 0 })},
		{"in memory", second(func(h *header) { h.VirtualSize = 1<<32 - 1 })},
		{"empty in memory", second(func(h *header) { h.VirtualSize = 0 })},
		{"end of the file", second(func(h *header) { h.PointerToRawData = 1 << 31 })},
		{"end of the file", second(func(h *header) { h.SizeOfRawData = 1<<32 - 512 })},
		{"in its head", second(func(h *header) { h.PointerToRawData = 0 })},
		{"relocations", second(func(h *header) { h.NumberOfRelocations = 1 })},
		{"does not say", func(f *fakePE) { f.sections[2].data = "other" }},
		{"does not say", func(f *fakePE) { f.sections[2].data = "#### LoaderInfo: systemd-boot 252 ####" }},
		{"does not say", func(f *fakePE) { f.sections[2].data = "#### LoaderInfo: systemd-stub " }},
		{"does not say", func(f *fakePE) { f.sections[2].data = "#" }},
		{"finished image", func(f *fakePE) { f.sections[3].name = ".linux" }},
		{"16777216", func(f *fakePE) { f.tail = make([]byte, maxStub) }},
	} {
		f := fakeStub("252")
		tt.change(&f)
		spec := fakeSpec(t, "252")
		spec.Stub = reader(f.bytes(t))
		if _, err := New(spec); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New = %v, want %q", err, tt.want)
		}
	}
}

// Every prefix of a stub gives an error.
func TestTruncatedStub(t *testing.T) {
	t.Parallel()
	whole := fakeStub("252").bytes(t)
	end := len(whole) - 512 // the last section is padded
	for n := range end {
		if _, err := readStub(reader(whole[:n])); err == nil {
			t.Fatalf("the first %d of %d bytes: no error", n, len(whole))
		}
	}
}

// FuzzStub looks for stubs that are taken and give an image that is none, and for panics.
func FuzzStub(f *testing.F) {
	f.Add(fakeStub("252.39").bytes(f))
	f.Add(fakeStub("257").bytes(f))
	if real, err := os.ReadFile(debianStub); err == nil {
		f.Add(real[:4096])
	}
	f.Fuzz(func(t *testing.T, stub []byte) {
		spec := fakeSpec(t, "252")
		spec.Stub = reader(stub)
		spec.SBAT = "a,1,b,c,1,d"
		m, err := New(spec)
		if err != nil {
			return
		}
		if m.Size() > int64(len(stub))+64<<10 {
			t.Fatalf("a stub of %d bytes makes an image of %d", len(stub), m.Size())
		}
		image := build(t, spec)
		if _, err := pe.NewFile(bytes.NewReader(image)); err != nil {
			t.Fatalf("the image is no PE file: %v", err)
		}
		if _, err := readProgram(reader(image)); err != nil {
			t.Fatalf("the image cannot be signed: %v", err)
		}
	})
}
