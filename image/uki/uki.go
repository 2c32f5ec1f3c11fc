// Package uki assembles unified kernel images: one EFI program of systemd's stub, a kernel, an initramfs and what belongs to
// them, as systemd-stub(7) and the UAPI group's specification of unified kernel images describe it. It also signs
// EFI programs for Secure Boot.
//
// The same inputs give the same bytes. Contents are not copied: they are read when the image is.
package uki

import (
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"strings"

	"hapax/image/sparse"
)

// A Spec says what to assemble.
type Spec struct {
	Stub      *io.SectionReader // systemd's stub
	Kernel    *io.SectionReader // with an EFI stub of its own, as distributions build it
	Initrd    *io.SectionReader
	Microcode *io.SectionReader // an early archive; nil for none
	Splash    *io.SectionReader // a BMP image; nil for none
	Cmdline   string
	OSRelease string // os-release(5)
	Uname     string // what uname -r will print
	SBAT      string // lines beside those of the stub
	Profiles  []Profile
}

// A Profile is a choice of the boot menu: the same image with another command line. The first one is the default.
type Profile struct {
	ID      string // for machines: letters, digits, "-" and "_"
	Title   string // for people
	Cmdline string
}

// Names of sections.
const (
	nameLinux   = ".linux"
	nameInitrd  = ".initrd"
	nameCmdline = ".cmdline"
	nameOSRel   = ".osrel"
	nameUname   = ".uname"
	nameSBAT    = ".sbat"
	nameUcode   = ".ucode"
	nameSplash  = ".splash"
	nameProfile = ".profile"
)

// The first releases of systemd whose stub knows these sections. An older one ignores them.
const (
	ucodeSince   = 256
	profileSince = 257
)

// New assembles an image. It reads the stub, and of the kernel the head.
func New(spec Spec) (*sparse.Image, error) {
	s, err := readStub(spec.Stub)
	if err != nil {
		return nil, fmt.Errorf("stub: %w", err)
	}
	if err := checkKernel(spec.Kernel, s); err != nil {
		return nil, err
	}
	if err := spec.check(s); err != nil {
		return nil, err
	}
	if err := s.mergeSBAT(spec.SBAT); err != nil {
		return nil, err
	}
	return s.assemble(spec.sections(s))
}

// Arch returns the Go name of the architecture that an EFI program is for: amd64 or arm64.
func Arch(program *io.SectionReader) (string, error) {
	f, _, err := readPE(program, maxProgram)
	if err != nil {
		return "", err
	}
	if arch := archOf(f.Machine); arch != "" {
		return arch, nil
	}
	return "", fmt.Errorf("it is for the machine %#x, which is neither amd64 nor arm64", f.Machine)
}

// checkKernel refuses what the stub could not start.
func checkKernel(kernel *io.SectionReader, s *stub) error {
	f, _, err := readPE(kernel, maxProgram)
	if err != nil {
		return fmt.Errorf("kernel: %w: it needs CONFIG_EFI_STUB", err)
	}
	if f.Machine != s.file.Machine {
		return fmt.Errorf("kernel: it is for the machine %#x, the stub for %#x", f.Machine, s.file.Machine)
	}
	return nil
}

// check refuses texts that would not mean in the image what they mean here.
func (spec Spec) check(s *stub) error {
	if spec.Initrd == nil || spec.Initrd.Size() == 0 {
		return errors.New("uki: there is no initramfs")
	}
	if len(spec.Profiles) > 0 && s.version < profileSince {
		return fmt.Errorf("uki: profiles need the stub of systemd %d, this one is of %d", profileSince, s.version)
	}
	texts := [][2]string{{"command line", spec.Cmdline}, {"kernel release", spec.Uname}}
	for _, p := range spec.Profiles {
		texts = append(texts, [2]string{"command line of profile " + p.ID, p.Cmdline}, [2]string{"title of profile " + p.ID, p.Title})
		if p.ID == "" || strings.Trim(p.ID, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			return fmt.Errorf("uki: profile %q: use letters, digits, - and _ for its name", p.ID)
		}
	}
	for _, t := range texts {
		if strings.ContainsAny(t[1], "\x00\n") {
			return fmt.Errorf("uki: the %s has a line end or a NUL", t[0])
		}
	}
	if strings.Contains(spec.OSRelease, "\x00") {
		return errors.New("uki: the os-release has a NUL")
	}
	if spec.Splash != nil {
		magic := make([]byte, 2)
		if _, err := spec.Splash.ReadAt(magic, 0); err != nil || string(magic) != "BM" {
			return errors.New("uki: the splash image is no BMP file")
		}
	}
	return nil
}

// sections returns the sections to add, in order. The kernel is the last of the base: a stub that starts it where it lies
// then has no other section behind it that it could run into. Profiles follow, for what is before the first of them is
// what all share.
func (spec Spec) sections(s *stub) []section {
	var list []section
	add := func(name string, content ...*io.SectionReader) {
		const data = pe.IMAGE_SCN_CNT_INITIALIZED_DATA | pe.IMAGE_SCN_MEM_READ
		c := section{name: name, characteristics: data, content: content}
		if name == nameLinux {
			c.characteristics |= pe.IMAGE_SCN_CNT_CODE | pe.IMAGE_SCN_MEM_EXECUTE
		}
		list = append(list, c)
	}
	text := func(name, text string) {
		if text != "" {
			add(name, stringReader(text))
		}
	}
	text(nameOSRel, spec.OSRelease)
	text(nameUname, spec.Uname)
	text(nameCmdline, spec.Cmdline)
	if spec.Splash != nil {
		add(nameSplash, spec.Splash)
	}
	switch {
	case spec.Microcode == nil:
		add(nameInitrd, spec.Initrd)
	case s.version >= ucodeSince:
		add(nameUcode, spec.Microcode)
		add(nameInitrd, spec.Initrd)
	default:
		// What an older stub would ignore as a section works as well in front of the initramfs.
		add(nameInitrd, spec.Microcode, zeros(-spec.Microcode.Size()&3), spec.Initrd)
	}
	add(nameLinux, spec.Kernel)
	for _, p := range spec.Profiles {
		text(nameProfile, p.text())
		text(nameCmdline, p.Cmdline)
	}
	return list
}

// text returns the content of a .profile section, which is like os-release(5).
func (p Profile) text() string {
	text := "ID=" + p.ID + "\n"
	if p.Title != "" {
		quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(p.Title)
		text += `TITLE="` + quoted + "\"\n"
	}
	return text
}

// mergeSBAT moves the stub's generation numbers (the SBAT of shim) to a section that holds further lines as well.
func (s *stub) mergeSBAT(lines string) error {
	if strings.TrimSpace(lines) == "" {
		return nil
	}
	for i, c := range s.sections {
		if c.name != nameSBAT {
			continue
		}
		if c.characteristics&pe.IMAGE_SCN_MEM_EXECUTE != 0 {
			return errors.New("sbat: the stub's section .sbat is code")
		}
		old, err := io.ReadAll(c.content[0])
		if err != nil {
			return err
		}
		merged := strings.TrimRight(string(old), "\x00\n") + "\n"
		for line := range strings.Lines(lines) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "sbat,") {
				continue // the line that names the format is there already
			}
			if strings.Count(line, ",") < 2 || strings.ContainsRune(line, 0) {
				return fmt.Errorf("sbat: %q is no component with generation and vendor", line)
			}
			merged += line + "\n"
		}
		// It grows, so it gets an address behind all others.
		s.sections = append(s.sections[:i:i], s.sections[i+1:]...)
		c.address, c.size, c.content = 0, 0, []*io.SectionReader{stringReader(merged)}
		s.extra = append(s.extra, c)
		return nil
	}
	return errors.New("sbat: the stub has no section .sbat to add to")
}

func stringReader(text string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(text), 0, int64(len(text)))
}

func zeros(n int64) *io.SectionReader { return stringReader(strings.Repeat("\x00", int(n))) }
