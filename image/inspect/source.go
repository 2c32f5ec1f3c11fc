// Package inspect looks into boot images, whoever made them: it lists, reads, compares and unpacks their files, and checks
// offline whether an image drives a machine.
//
// Images may be hostile: what a header claims is never trusted with memory, and Unpack touches nothing outside of its folder.
package inspect

import (
	"context"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hapax/image/archive"
)

// A Kind is what an image file is.
type Kind string

// The kinds of image files.
const (
	Initramfs Kind = "initramfs"
	UKI       Kind = "uki" // a unified kernel image, a PE file with an initramfs in it
)

// A Source is an image, in a file of its own or on a medium. It may be read any number of times, but not by several goroutines at once.
type Source struct {
	Name string
	Kind Kind
	Size int64 // of the file

	// Of a UKI.
	Kernel  *io.SectionReader // nil if there is none
	Release string            // what .uname says, "" if there is none
	Cmdline string

	ctx   context.Context     // ends all reading
	parts []*io.SectionReader // what the kernel unpacks, one behind the other
	close func() error
}

// maxText bounds the sections of a UKI that are text.
const maxText = 64 << 10

// Open opens an image file and finds the initramfs in it. Whether that can be read shows later. When ctx ends, everything that
// reads the Source ends with its cause.
//
// The file may be a disk or a CD with one image on its EFI system partition; FILE:NAME names one of several.
func Open(ctx context.Context, name string) (*Source, error) {
	f, err := openFile(name)
	inside := ""
	if file, rest := splitMedium(name); errors.Is(err, fs.ErrNotExist) && rest != "" {
		if inner, innerErr := openFile(file); innerErr == nil {
			f, err, inside = inner, nil, rest
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", name)
	}
	var s *Source
	if err == nil {
		s, err = newSource(ctx, name, io.NewSectionReader(f, 0, info.Size()), inside)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.close = f.Close
	return s, nil
}

// openFile opens a file without waiting for somebody at the other end, should it be a pipe.
func openFile(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// Close closes the file.
func (s *Source) Close() error { return s.close() }

// newSource finds the initramfs in a file or, with the name of a file inside, on a medium.
func newSource(ctx context.Context, name string, file *io.SectionReader, inside string) (*Source, error) {
	s := &Source{Name: name, Kind: Initramfs, Size: file.Size(), ctx: ctx}
	var err error
	if isPE(file) && inside == "" {
		err = s.findSections(file)
	} else {
		var found bool
		found, err = s.openMedium(file, inside)
		switch {
		case !found && inside != "":
			err = errors.New("neither a disk nor a CD, so there is nothing to name inside of it")
		case !found:
			s.parts = []*io.SectionReader{file}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	return s, nil
}

// isPE reports whether a file begins as EFI programs do.
func isPE(file io.ReaderAt) bool {
	magic := make([]byte, 2)
	_, err := file.ReadAt(magic, 0)
	return err == nil && string(magic) == "MZ"
}

// findSections reads the section table of a PE file. Sections behind the first .profile belong to one choice of several;
// what stands before it is for all of them.
func (s *Source) findSections(file *io.SectionReader) error {
	s.Kind = UKI
	f, err := pe.NewFile(file)
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
		if int64(section.Offset)+size > file.Size() {
			return fmt.Errorf("its section %s ends behind the file: copy or build it again", section.Name)
		}
		content := io.NewSectionReader(file, int64(section.Offset), size)
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
