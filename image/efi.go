package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"hapax/image/disk"
	"hapax/image/disk/erofs"
	"hapax/image/disk/fat"
	"hapax/image/sparse"
	"hapax/image/uki"
)

// An assembly is one image of a format that UEFI starts, in the making.
type assembly struct {
	ctx   context.Context
	spec  Spec
	parts parts
	files []*os.File // open until the image is written

	kernel  *io.SectionReader
	arch    string
	cmdline string
	root    string // word of the command line for the root partition, "" for none
	private bool   // the root partition holds what not everybody may read
}

// close closes the files that the image was read from.
func (a *assembly) close() error {
	var err error
	for _, f := range a.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// open opens a file until the image is written.
func (a *assembly) open(file string) (*io.SectionReader, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	a.files = append(a.files, f)
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", file)
	}
	return io.NewSectionReader(f, 0, info.Size()), nil
}

// optional is open for a file that need not be named.
func (a *assembly) optional(file string) (*io.SectionReader, error) {
	if file == "" {
		return nil, nil
	}
	return a.open(file)
}

// readKernel opens the kernel and learns what it is for.
func (a *assembly) readKernel() (err error) {
	if a.kernel, err = a.open(a.parts.Kernel); err != nil {
		return err
	}
	if a.arch, err = uki.Arch(a.kernel); err != nil {
		return fmt.Errorf("kernel %s: %w: UEFI starts only a kernel with CONFIG_EFI_STUB", a.parts.Kernel, err)
	}
	if want := a.spec.Arch.name(); a.arch != want {
		return fmt.Errorf("kernel %s is for %s, the image for %s: take another kernel, or say --arch %[2]s", a.parts.Kernel, a.arch, want)
	}
	a.cmdline = a.parts.Cmdline
	return nil
}

// efiArch returns the name of the architecture in names of EFI programs.
func (a *assembly) efiArch() string {
	if a.arch == "arm64" {
		return "aa64"
	}
	return "x64"
}

// uki assembles the unified kernel image, signed if there is a key.
func (a *assembly) uki() (*sparse.Image, error) {
	stub := a.spec.Stub
	if stub == "" {
		stub = filepath.Join(a.spec.Root, "usr/lib/systemd/boot/efi/linux"+a.efiArch()+".efi.stub")
	}
	content, err := a.open(stub)
	if err != nil {
		return nil, fmt.Errorf("%w: install systemd-boot-efi, or name systemd's stub with --stub", err)
	}
	spec := uki.Spec{
		Stub: content, Kernel: a.kernel, Initrd: a.parts.Initrd, Cmdline: a.cmdline, OSRelease: string(a.parts.OSRelease),
		Uname: a.parts.Release,
	}
	if len(a.parts.Microcode) > 0 {
		spec.Microcode = section(a.parts.Microcode)
	}
	if spec.Splash, err = a.optional(a.spec.Splash); err != nil {
		return nil, err
	}
	if a.spec.SBAT != "" {
		lines, err := os.ReadFile(a.spec.SBAT)
		if err != nil {
			return nil, fmt.Errorf("%w", err)
		}
		spec.SBAT = string(lines)
	}
	if spec.Profiles, err = a.spec.bootProfiles(); err != nil {
		return nil, err
	}
	for i, p := range spec.Profiles {
		if p.Cmdline != "" { // it stands in the place of the other one
			spec.Profiles[i].Cmdline = a.withRoot(p.Cmdline)
		}
	}
	image, err := uki.New(spec)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", stub, a.parts.Kernel, err)
	}
	return a.sign(image)
}

// bootProfiles reads the choices of the boot menu: "ID[:TITLE]=CMDLINE".
func (s Spec) bootProfiles() ([]uki.Profile, error) {
	var profiles []uki.Profile
	for _, text := range s.BootProfiles {
		name, cmdline, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("boot profile %q: use ID[:TITLE]=CMDLINE", text)
		}
		id, title, _ := strings.Cut(name, ":")
		profiles = append(profiles, uki.Profile{ID: id, Title: title, Cmdline: cmdline})
	}
	return profiles, nil
}

// tokenPrefix begins a key that is on a token.
const tokenPrefix = "pkcs11:"

// sign signs an EFI program if there is a key.
func (a *assembly) sign(program *sparse.Image) (*sparse.Image, error) {
	if a.spec.SignKey == "" {
		return program, nil
	}
	if strings.HasPrefix(a.spec.SignKey, tokenPrefix) {
		token := uki.Token{Key: a.spec.SignKey, Module: a.spec.SignModule, Certificate: a.spec.SignCert, Time: a.spec.Time}
		return token.Sign(a.ctx, program.Reader())
	}
	signer, err := uki.LoadSigner(a.spec.SignKey, a.spec.SignCert)
	if err != nil {
		return nil, err
	}
	return signer.Sign(program.Reader())
}

// rootPartition returns what goes on the second partition, nil for none, and names it on the command line.
func (a *assembly) rootPartition() (*disk.Root, error) {
	file := a.spec.RootPartition
	if file == "" {
		return nil, nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	var content *io.SectionReader
	if info.IsDir() {
		if err := outside(a.spec.Output, file); err != nil {
			return nil, err
		}
		made, err := erofs.New(file, a.spec.Time)
		if err != nil {
			return nil, err
		}
		content, a.private = made.Image.Reader(), made.Private
	} else {
		if content, err = a.open(file); err != nil {
			return nil, err
		}
		a.private = info.Mode()&0o004 == 0
	}
	root, err := disk.NewRoot(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	a.root = "root=PARTUUID=" + root.GUID.String()
	a.cmdline = a.withRoot(a.cmdline)
	return root, nil
}

// outside refuses an output in the folder that goes into it.
func outside(output, folder string) error {
	dir, err := filepath.EvalSymlinks(filepath.Dir(output))
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	top, topErr := filepath.EvalSymlinks(folder)
	if topErr == nil {
		top, topErr = filepath.Abs(top)
	}
	if err := errors.Join(err, topErr); err != nil {
		return err
	}
	if rel, err := filepath.Rel(top, dir); err == nil && filepath.IsLocal(rel) {
		return fmt.Errorf("%s lies in %s, which goes into it: write it to another folder", output, folder)
	}
	return nil
}

// withRoot returns a command line that names the root partition, if there is one.
func (a *assembly) withRoot(cmdline string) string {
	if a.root == "" || hasWord(cmdline, "root=") {
		return cmdline
	}
	return strings.TrimSpace(a.root + " " + cmdline)
}

// hasWord reports whether a word of a command line begins so.
func hasWord(cmdline, prefix string) bool {
	for word := range strings.FieldsSeq(cmdline) {
		if strings.HasPrefix(word, prefix) {
			return true
		}
	}
	return false
}

// esp returns the files of the EFI system partition.
func (a *assembly) esp() ([]fat.File, error) {
	boot := "EFI/BOOT/BOOT" + strings.ToUpper(a.efiArch()) + ".EFI"
	if a.spec.Loader == "" {
		image, err := a.uki()
		if err != nil {
			return nil, err
		}
		return []fat.File{{Name: boot, Content: image.Reader()}}, nil
	}
	content, err := a.open(a.spec.Loader)
	if err != nil {
		return nil, err
	}
	loader := sparse.New(content.Size())
	loader.PutReader(0, content)
	if loader, err = a.sign(loader); err != nil {
		return nil, fmt.Errorf("%s: %w", a.spec.Loader, err)
	}
	files := []fat.File{
		{Name: boot, Content: loader.Reader()},
		{Name: "loader/loader.conf", Content: section([]byte("timeout 0\n"))},
	}
	if a.spec.Layout == LayoutBLS {
		entry, err := a.entry()
		return append(files, entry...), err
	}
	image, err := a.uki()
	if err != nil {
		return nil, err
	}
	return append(files, fat.File{Name: "EFI/Linux/hapax-" + a.parts.Release + ".efi", Content: image.Reader()}), nil
}

// entry returns kernel and initramfs with the entry that names them, of the Boot Loader Specification's type 1.
func (a *assembly) entry() ([]fat.File, error) {
	kernel := sparse.New(a.kernel.Size())
	kernel.PutReader(0, a.kernel)
	kernel, err := a.sign(kernel)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.parts.Kernel, err)
	}
	if strings.ContainsAny(a.cmdline, "\n\x00") {
		return nil, errors.New("the command line has a line end or a NUL")
	}
	dir := "hapax/" + a.parts.Release + "/"
	files := []fat.File{{Name: dir + "linux", Content: kernel.Reader()}}
	text := "title " + prettyName(a.parts.OSRelease) + "\nversion " + a.parts.Release + "\nlinux /" + dir + "linux\n"
	initrd := func(name string, content *io.SectionReader) {
		files = append(files, fat.File{Name: dir + name, Content: content})
		text += "initrd /" + dir + name + "\n"
	}
	if len(a.parts.Microcode) > 0 {
		initrd("microcode", section(a.parts.Microcode))
	}
	initrd("initrd", a.parts.Initrd)
	if a.cmdline != "" {
		text += "options " + a.cmdline + "\n"
	}
	return append(files, fat.File{Name: "loader/entries/hapax-" + a.parts.Release + ".conf", Content: section([]byte(text))}), nil
}

// prettyName returns the name that an os-release(5) gives people to read.
func prettyName(osRelease []byte) string {
	for line := range strings.Lines(string(osRelease)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			if name = strings.Trim(name, `"'`); name != "" {
				return name
			}
		}
	}
	return "Linux"
}

func section(data []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))
}
