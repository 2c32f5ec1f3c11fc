package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hapax/image/disk"
	"hapax/image/inroot"
	"hapax/image/iso"
	"hapax/image/sparse"
)

// A Format is what Build makes.
type Format string

// The formats of Build.
const (
	Initramfs Format = "initramfs" // one file for the initrd line of a boot loader, or for QEMU's -initrd
	UKI       Format = "uki"       // a unified kernel image: an EFI program with kernel, initramfs and command line
	Disk      Format = "disk"      // a disk that UEFI starts from
	ISO       Format = "iso"       // a CD that UEFI starts from, or an USB stick
)

// Formats returns the formats of Build, the default first.
func Formats() []Format { return []Format{Initramfs, UKI, Disk, ISO} }

// A Layout is how kernel and initramfs lie on an EFI system partition, in the words of kernel-install(8).
type Layout string

// The layouts of an EFI system partition.
const (
	LayoutUKI Layout = "uki" // as one unified kernel image
	LayoutBLS Layout = "bls" // as files of their own, with an entry for a boot loader
)

// Layouts returns the layouts, the default first.
func Layouts() []Layout { return []Layout{LayoutUKI, LayoutBLS} }

// UnmarshalText refuses what is no layout.
func (l *Layout) UnmarshalText(text []byte) error { return unmarshalWord(l, Layouts(), text) }

// A DiskType is how the file of a disk is written.
type DiskType string

// The types of disk files.
const (
	Raw   DiskType = "raw" // with holes where nothing is
	QCOW2 DiskType = "qcow2"
)

// DiskTypes returns the types of disk files, the default first.
func DiskTypes() []DiskType { return []DiskType{Raw, QCOW2} }

// UnmarshalText refuses what is no type.
func (d *DiskType) UnmarshalText(text []byte) error { return unmarshalWord(d, DiskTypes(), text) }

// parts are what the formats other than Initramfs are assembled from.
type parts struct {
	Initrd    *io.SectionReader // the compressed initramfs without microcode
	Microcode []byte            // the newc archive that goes in front of it, nil if there is none
	Kernel    string            // file
	Release   string            // what uname -r prints
	Cmdline   string
	OSRelease []byte
}

const (
	maxESP     = 2 << 20 // MiB: what FAT32 can have with sectors of 512 bytes
	maxCmdline = 2047    // COMMAND_LINE_SIZE of x86 and arm64, without the NUL
)

// checkFormat checks what the format takes, as far as that needs no file.
func (s Spec) checkFormat() error {
	efi, medium := s.Format == UKI || s.Format == Disk || s.Format == ISO, s.Format == Disk || s.Format == ISO
	bls := s.Layout == LayoutBLS
	token := strings.HasPrefix(s.SignKey, tokenPrefix)
	for _, rule := range []struct {
		broken bool
		text   string
	}{
		{!efi && s.Format != Initramfs, fmt.Sprintf("unknown format %q", string(s.Format))},
		{!efi && (s.Stub != "" || s.Splash != "" || s.SBAT != "" || len(s.BootProfiles) > 0),
			"--stub, --splash, --sbat and --boot-profile are for --format uki, disk and iso"},
		{!efi && (s.SignKey != "" || s.SignCert != ""), "an initramfs is not signed: use --format uki, disk or iso"},
		{!medium && (s.Loader != "" || bls), "--boot-loader and --layout are for --format disk and iso"},
		{s.Format != Disk && (s.RootPartition != "" || s.ESPSize != 0 || s.SectorSize != 0 || s.DiskType == QCOW2),
			"--root-partition, --esp-size, --sector-size and --disk-type are for --format disk"},
		{bls && s.Loader == "", "--layout bls needs a boot loader that reads its entries: name it with --boot-loader"},
		{bls && (s.Stub != "" || s.Splash != "" || s.SBAT != "" || len(s.BootProfiles) > 0),
			"--layout bls has no use for --stub, --splash, --sbat and --boot-profile"},
		{(s.SignKey == "") != (s.SignCert == ""), "a signature needs both --sign-key and --sign-cert"},
		{token != (s.SignModule != ""), "--sign-key pkcs11:... and --pkcs11-module belong together"},
		{s.ESPSize < 0 || s.ESPSize > maxESP, fmt.Sprintf("--esp-size: from 1 to %d MiB", maxESP)},
		{efi && len(s.Cmdline) > maxCmdline, fmt.Sprintf("--cmdline: a kernel takes at most %d bytes", maxCmdline)},
	} {
		if rule.broken {
			return errors.New(rule.text)
		}
	}
	_, err := s.bootProfiles()
	return err
}

// assemble writes what spec.Format names to f, a new and empty file that the caller forces to the disk and renames.
func assemble(ctx context.Context, f *os.File, spec Spec, p parts) (err error) {
	a := &assembly{ctx: ctx, spec: spec, parts: p}
	defer func() { err = errors.Join(err, a.close()) }()
	image, err := a.image()
	if err != nil {
		return err
	}
	if a.private {
		if err := f.Chmod(0o600); err != nil {
			return fmt.Errorf("%w", err)
		}
	}
	write := image.WriteRaw
	if spec.Format == Disk && spec.DiskType == QCOW2 {
		write = image.WriteQCOW2
	}
	if err := write(ctx, f); err != nil {
		return fmt.Errorf("write %s: %w", spec.Output, err)
	}
	return nil
}

// image lays out the image.
func (a *assembly) image() (*sparse.Image, error) {
	if err := a.readKernel(); err != nil {
		return nil, err
	}
	if a.spec.Format == UKI {
		return a.uki()
	}
	if a.spec.Format == ISO {
		files, err := a.esp()
		if err != nil {
			return nil, err
		}
		return iso.New(iso.Spec{ESP: files, Time: a.spec.Time})
	}
	root, err := a.rootPartition() // first, for the command line names it
	if err != nil {
		return nil, err
	}
	files, err := a.esp()
	if err != nil {
		return nil, err
	}
	return disk.New(disk.Spec{
		ESP: files, ESPSize: a.spec.ESPSize << 20, SectorSize: a.spec.SectorSize, Root: root, Time: a.spec.Time,
	}, a.arch)
}

// kernelFile returns the kernel that belongs to the modules of a spec.
func (s Spec) kernelFile() (string, error) {
	if s.Kernel != "" {
		return s.Kernel, nil
	}
	release := filepath.Base(s.ModulesDir)
	places := []string{
		filepath.Join(s.ModulesDir, "vmlinuz"),
		filepath.Join(s.ModulesDir, "../../../boot/vmlinuz-"+release),
		filepath.Join(s.ModulesDir, "../../../../boot/vmlinuz-"+release), // usr/lib/modules
	}
	for _, file := range places {
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("no kernel beside %s: name it with --kernel", s.ModulesDir)
}

// osRelease returns the os-release(5) that a boot menu shows.
func (s Spec) osRelease() ([]byte, error) {
	if s.OSRelease != "" {
		b, err := os.ReadFile(s.OSRelease)
		if err != nil {
			return nil, fmt.Errorf("%w", err)
		}
		return b, nil
	}
	for _, file := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		b, err := inroot.ReadFile(s.Root, file)
		if err == nil {
			return b, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w", err)
		}
	}
	return []byte(release), nil
}
