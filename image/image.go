// Package image builds boot images: an initramfs with hapax as /init and the kernel modules that a machine needs, with their
// firmware, alone or as a part of what a firmware boots.
//
// The same Spec over the same files gives the same bytes, whatever the folder, the user, the umask or the time.
package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"hapax/image/archive"
	"hapax/image/inroot"
	"hapax/image/resolve"
	"hapax/modload/modindex"
)

// A Mode says where the selection of modules begins.
type Mode string

// The modes of Build.
const (
	Universal   Mode = "universal" // what boots any usual machine of the kernel from local storage
	Host        Mode = "host"      // of that, what this machine has, and what its root, keyboard and console need
	FromProfile Mode = "profile"   // the same for the machines that Spec.Profiles describe, all of them
	Custom      Mode = "custom"    // nothing but what Spec.Modules and hooks name
	All         Mode = "all"       // every module of the tree
)

// Modes returns the modes of Build, the default first.
func Modes() []Mode { return []Mode{Universal, Host, FromProfile, Custom, All} }

// UnmarshalText refuses what is no mode.
func (m *Mode) UnmarshalText(text []byte) error { return unmarshalWord(m, Modes(), text) }

// UnmarshalText refuses what is no format.
func (f *Format) UnmarshalText(text []byte) error { return unmarshalWord(f, Formats(), text) }

// unmarshalWord sets value to one of the words that are allowed.
func unmarshalWord[T ~string](value *T, allowed []T, text []byte) error {
	if !slices.Contains(allowed, T(text)) {
		return fmt.Errorf("unknown value %q: use one of %q", text, allowed)
	}
	*value = T(text)
	return nil
}

// DefaultCompression is what a Spec without Compression gets.
const DefaultCompression = archive.LZ4

// Values of Spec.Shell that are no file.
const (
	NoShell    = "none"
	URootShell = "u-root"
)

// A Spec says what to build. Zero fields stand for the defaults of `hapax build`, except for Output and ModulesDir, which
// are needed. A field with a toml tag is the flag of that name, and the key in hapax.toml.
type Spec struct {
	Output string `toml:"-"`      // replaced at once when the image is complete, never touched before
	Force  bool   `toml:"force"`  // replace an Output that exists
	Format Format `toml:"format"` // default Initramfs
	Arch   Arch   `toml:"arch"`   // of the machines; default NativeArch

	ModulesDir string         `toml:"modules-dir"` // a lib/modules/RELEASE folder with depmod's files; its name is the release
	Mode       Mode           `toml:"mode"`        // default Universal
	Profiles   []string       `toml:"profile"`     // files for Mode FromProfile
	HostRoot   string         `toml:"host-root"`   // for Mode Host: where the sys and proc of the machine are; default "/"
	Modules    []resolve.Rule `toml:"modules"`     // applied after the mode's own
	ForceLoad  []string       `toml:"force-load"`  // names or aliases to load at every boot, in this order; they are selected as well
	Deny       []string       `toml:"deny"`        // names or patterns of modules that neither the image nor what depends on them gets
	ModprobeD  []string       `toml:"modprobe-d"`  // modprobe.d(5) folders whose files apply; default those of HostRoot with Mode Host

	FirmwareDirs []string `toml:"firmware-dir"` // default lib/firmware below Root
	Firmware     []string `toml:"firmware"`     // names or globs of more firmware, below a FirmwareDirs
	Microcode    string   `toml:"microcode"`    // one of Microcodes, or a folder with intel-ucode and amd-ucode; default MicrocodeAuto

	Init   string `toml:"init"`   // file for /init; default the embedded one
	Shell  string `toml:"shell"`  // NoShell (the default), URootShell or a file for /bin/sh
	Rescue Rescue `toml:"rescue"` // who gets it when a boot fails; default RescueShell with a Shell, else RescueNone

	PasswordFile string `toml:"rescue-password-file"` // for RescuePassword: its first line is as Password
	Password     string `toml:"-"`                    // the password, or its hash in the PHC format of argon2id

	Root     string    `toml:"root"`        // where programs, their libraries and firmware come from; default "/"
	Programs []Include `toml:"program"`     // ELF files with the libraries that they need, named as in Root
	Includes []Include `toml:"include"`     // more files
	HookDirs []string  `toml:"include-dir"` // folders of hooks; default those of HookDirs

	Standalone bool      `toml:"standalone"` // the image stays; one with services does in any case
	Services   []Service `toml:"service"`    // what it runs then
	Network    Network   `toml:"network"`    // how it is connected then
	Extra      string    `toml:"-"`          // file for the second binary of /init; default the embedded one

	Compression archive.Compression `toml:"compression"`        // default DefaultCompression
	Packing     Packing             `toml:"module-compression"` // of each module; default KeepPacking
	Time        time.Time           `toml:"-"`                  // of every file; default the epoch

	// Progress is called after each piece of the archive with the bytes before compression that are done and in all.
	Progress func(done, total int64) `toml:"-"`

	// What the formats other than Initramfs take.
	Kernel    string `toml:"kernel"`     // file; default that of the release, beside ModulesDir or in boot
	Cmdline   string `toml:"cmdline"`    // of the kernel
	OSRelease string `toml:"os-release"` // file; default that of Root

	Stub         string   `toml:"stub"`          // systemd's EFI stub; default that of Root
	Splash       string   `toml:"splash"`        // BMP file
	SBAT         string   `toml:"sbat"`          // file with lines beside those of the stub
	BootProfiles []string `toml:"boot-profile"`  // choices of the boot menu, "ID[:TITLE]=CMDLINE"
	SignKey      string   `toml:"sign-key"`      // PEM file of an RSA key, or a pkcs11: URI
	SignCert     string   `toml:"sign-cert"`     // PEM file
	SignModule   string   `toml:"pkcs11-module"` // shared library, for a pkcs11: URI

	Layout        Layout   `toml:"layout"`         // of the EFI system partition; default LayoutUKI
	Loader        string   `toml:"boot-loader"`    // systemd-boot, to be started first; default none
	RootPartition string   `toml:"root-partition"` // a file system's image, or a folder to make an erofs of; default none
	ESPSize       int64    `toml:"esp-size"`       // MiB; default what is needed and a quarter more
	SectorSize    int      `toml:"sector-size"`    // of the disk; default 512
	DiskType      DiskType `toml:"disk-type"`      // default Raw
}

// A Result describes the image that was built.
type Result struct {
	Output      string              `json:"output"`
	Format      Format              `json:"format"`
	Release     string              `json:"release"`
	Modules     int                 `json:"modules"`
	Firmware    int                 `json:"firmware"`      // files
	Files       int                 `json:"files"`         // folders, links and nodes included
	Content     int64               `json:"content_bytes"` // of the initramfs before compression, microcode not counted
	Size        int64               `json:"size_bytes"`    // of Output
	Compression archive.Compression `json:"compression"`

	Missing  []MissingFirmware `json:"missing_firmware,omitempty"`
	Warnings []string          `json:"warnings,omitempty"` // what was left out, and why
	Explain  []Explained       `json:"explain,omitempty"`  // every file but folders, by name
}

// An Explained says why a file is in the image.
type Explained struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // in the archive, before its compression
	Why  string `json:"why"`
}

// Build makes the image of spec. When it fails, or ctx ends, Output is as it was and nothing is left beside it.
// Builds of the same Output at the same time each leave a whole image, the last one stays.
func Build(ctx context.Context, spec Spec) (Result, error) {
	for _, dir := range spec.ModprobeD { // those of the host need not all be there
		if _, err := os.Stat(dir); err != nil {
			return Result{}, fmt.Errorf("modprobe-d: %w", err)
		}
	}
	spec, err := spec.withDefaults()
	if err != nil {
		return Result{}, err
	}
	if err := checkOutput(spec.Output, spec.Force); err != nil {
		return Result{}, err
	}
	if spec.Output, err = behindLinks(spec.Output); err != nil {
		return Result{}, err
	}
	if info, err := os.Stat(spec.ModulesDir); err != nil || !info.IsDir() {
		return Result{}, fmt.Errorf("%s: no such folder: name a lib/modules/RELEASE folder with --modules-dir", spec.ModulesDir)
	}
	index, err := modindex.Open(spec.ModulesDir)
	if err != nil {
		return Result{}, err
	}
	defer index.Close()
	b := newBuilder(spec, index)
	defer b.close()
	if err := b.compose(ctx); err != nil {
		return Result{}, err
	}
	return b.write(ctx)
}

// withDefaults fills in what was left out and checks what needs no file.
func (s Spec) withDefaults() (Spec, error) {
	if s.Output == "" || s.ModulesDir == "" {
		return s, errors.New("an output file and a modules folder are needed")
	}
	dir, err := filepath.Abs(s.ModulesDir) // so that "." has a name, too
	if err != nil {
		return s, err
	}
	s.ModulesDir = dir
	setDefault(&s.Format, Initramfs)
	setDefault(&s.Mode, Universal)
	setDefault(&s.HostRoot, "/")
	setDefault(&s.Root, "/")
	setDefault(&s.Shell, NoShell)
	setDefault(&s.Rescue, rescueDefault(s.Shell))
	setDefault(&s.Microcode, MicrocodeAuto)
	setDefault(&s.Compression, DefaultCompression)
	setDefault(&s.Packing, KeepPacking)
	if len(s.FirmwareDirs) == 0 {
		s.FirmwareDirs = []string{filepath.Join(s.Root, "lib/firmware")}
		if dir, err := inroot.Resolve(s.Root, "/lib/firmware"); err == nil { // without, there is none
			s.FirmwareDirs = []string{inroot.Host(s.Root, dir)}
		}
	}
	if len(s.ModprobeD) == 0 && s.Mode == Host {
		s.ModprobeD = modindex.ConfigDirs(s.HostRoot)
	}
	if s.Time.IsZero() {
		s.Time = time.Unix(0, 0)
	}
	if s.Mode == FromProfile && len(s.Profiles) == 0 {
		return s, errors.New("mode profile needs the file of a machine: make one there with hapax profile record, and name it with --profile")
	}
	if s.Mode != FromProfile && len(s.Profiles) > 0 {
		return s, fmt.Errorf("mode %s has no use for a profile: leave out --profile, or say --mode profile", s.Mode)
	}
	if err := s.checkRescue(); err != nil {
		return s, err
	}
	return s, s.checkFormat()
}

func setDefault[T comparable](value *T, standard T) {
	var zero T
	if *value == zero {
		*value = standard
	}
}
