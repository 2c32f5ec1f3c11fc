// Package inspect looks into boot images, whoever made them: it lists, reads, compares and unpacks their files, and checks
// offline whether an image drives a machine.
//
// Images may be hostile: what a header claims is never trusted with memory, and Unpack touches nothing outside of its folder.
package inspect

import (
	"bytes"
	"context"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"hapax/image/archive"
)

// A Kind is what an image file is.
type Kind string

// The kinds of image files.
const (
	Initramfs Kind = "initramfs"
	UKI       Kind = "uki" // a unified kernel image, a PE file with an initramfs in it
)

// A Source is an image file. It may be read any number of times, but not by several goroutines at once.
type Source struct {
	Name string
	Kind Kind
	Size int64 // of the file

	// Of a UKI.
	Kernel  *io.SectionReader // nil if there is none
	Release string            // what .uname says, "" if there is none
	Cmdline string

	ctx   context.Context // ends all reading
	file  io.ReaderAt
	parts []*io.SectionReader // what the kernel unpacks, one behind the other
	close func() error
}

// maxText bounds the sections of a UKI that are text.
const maxText = 64 << 10

// Open opens an image file and finds the initramfs in it. Whether that can be read shows later. When ctx ends, everything that
// reads the Source ends with its cause.
func Open(ctx context.Context, name string) (*Source, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", name)
	}
	var s *Source
	if err == nil {
		s, err = newSource(ctx, name, f, info.Size())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.close = f.Close
	return s, nil
}

// Close closes the file.
func (s *Source) Close() error { return s.close() }

// newSource finds the initramfs in what file gives.
func newSource(ctx context.Context, name string, file io.ReaderAt, size int64) (*Source, error) {
	s := &Source{Name: name, Kind: Initramfs, Size: size, ctx: ctx, file: file}
	magic := make([]byte, 2)
	if _, err := file.ReadAt(magic, 0); err == nil && bytes.Equal(magic, []byte("MZ")) {
		if err := s.findSections(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return s, nil
	}
	if what := container(file); what != "" {
		return nil, fmt.Errorf("%s: %s: name the image inside of it", name, what)
	}
	s.parts = []*io.SectionReader{io.NewSectionReader(file, 0, size)}
	return s, nil
}

// container tells what a file is that has images inside as files and is not looked into, "" for others.
func container(file io.ReaderAt) string {
	for _, c := range []struct {
		at    int64
		magic string
		what  string
	}{
		{512, "EFI PART", "a disk"}, {4096, "EFI PART", "a disk"}, {0, "QFI\xfb", "a disk in qcow2"}, {0x8001, "CD001", "an ISO image"},
	} {
		b := make([]byte, len(c.magic))
		if _, err := file.ReadAt(b, c.at); err == nil && string(b) == c.magic {
			return c.what
		}
	}
	return ""
}

// findSections reads the section table of a PE file. Sections behind the first .profile belong to one choice of several;
// what stands before it is for all of them.
func (s *Source) findSections() error {
	s.Kind = UKI
	f, err := pe.NewFile(s.file)
	if err != nil {
		return fmt.Errorf("begins like a PE file, but is none: %w", err)
	}
	var initrd, ucode []*io.SectionReader
	for _, section := range f.Sections {
		if section.Name == ".profile" {
			break
		}
		size := int64(section.Size)
		if section.VirtualSize != 0 { // without the padding
			size = min(size, int64(section.VirtualSize))
		}
		if int64(section.Offset)+size > s.Size {
			return fmt.Errorf("its section %s ends behind the file: copy or build it again", section.Name)
		}
		content := io.NewSectionReader(s.file, int64(section.Offset), size)
		switch section.Name {
		case ".initrd":
			initrd = append(initrd, content)
		case ".ucode":
			ucode = append(ucode, content)
		case ".linux":
			s.Kernel = content
		case ".uname":
			s.Release = sectionText(content)
		case ".cmdline":
			s.Cmdline = sectionText(content)
		}
	}
	if len(initrd) == 0 {
		return errors.New("a PE file without a section .initrd: a kernel or a boot loader, not a unified kernel image")
	}
	s.parts = slices.Concat(ucode, initrd) // systemd-stub(7)
	return nil
}

// sectionText returns the text in a section up to its padding, "" if it is longer than any should be.
func sectionText(r *io.SectionReader) string {
	if r.Size() > maxText {
		return ""
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return ""
	}
	text, _, _ := strings.Cut(string(b), "\x00")
	return strings.TrimSpace(text)
}

// Reader returns a Reader of the initramfs from its beginning.
func (s *Source) Reader(limits archive.Limits) *archive.Reader {
	readers := make([]io.Reader, len(s.parts))
	for i, p := range s.parts {
		readers[i] = io.NewSectionReader(p, 0, p.Size())
	}
	return archive.NewReader(&interruptible{s.ctx, io.MultiReader(readers...)}, limits)
}

// An interruptible reader ends with its context.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	return i.r.Read(p)
}

// InitramfsSize returns how many bytes the initramfs takes in the file.
func (s *Source) InitramfsSize() (size int64) {
	for _, p := range s.parts {
		size += p.Size()
	}
	return size
}
