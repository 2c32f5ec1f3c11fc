package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hapax/image/archive"
	"hapax/image/profile"
)

// Values of Spec.Microcode that are no folder.
const (
	MicrocodeAuto = "auto" // for the processors of the machines with the modes Host and FromProfile, else none
	MicrocodeAll  = "all"  // whatever the firmware folders have
	NoMicrocode   = "none"
)

// Folders of microcode below a firmware folder, as linux-firmware and Debian's intel-microcode and amd64-microcode have them.
const (
	intelFolder = "intel-ucode"
	amdFolder   = "amd-ucode"
)

// microcode returns the archive that goes in front of the compressed one: the kernel looks for its files in the first,
// plain part of an initramfs, before it has memory management (arch/x86/kernel/cpu/microcode/core.c). It is nil if there is
// nothing to put in.
func (b *builder) microcode() ([]byte, error) {
	dirs := b.spec.FirmwareDirs
	fits := func(vendor, file string) bool { return true }
	switch b.spec.Microcode {
	case NoMicrocode:
		return nil, nil
	case MicrocodeAuto:
		fits = b.fitsProcessor
	case MicrocodeAll:
	default:
		dirs = []string{b.spec.Microcode}
		if info, err := os.Stat(dirs[0]); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("microcode: %s is no folder: use auto, all, none, or a folder with %s and %s",
				dirs[0], intelFolder, amdFolder)
		}
	}
	amd, err := readMicrocode(dirs, amdFolder, func(file string) bool { return strings.HasSuffix(file, ".bin") && fits(amdVendor, file) })
	if err != nil {
		return nil, err
	}
	intel, err := readMicrocode(dirs, intelFolder, func(file string) bool { return isIntel(file) && fits(intelVendor, file) })
	if err != nil {
		return nil, err
	}
	if len(amd) == 0 && len(intel) == 0 {
		if b.spec.Microcode != MicrocodeAuto {
			return nil, fmt.Errorf("microcode: no files in %s or %s below %s", intelFolder, amdFolder, strings.Join(dirs, " or "))
		}
		return nil, nil
	}
	return earlyArchive(b.spec, amd, intel)
}

const (
	amdVendor   = "AuthenticAMD"
	intelVendor = "GenuineIntel"
)

// isIntel reports whether a file is named as Intel's are: FAMILY-MODEL-STEPPING, two hexadecimal digits each. The kernel stops at
// whatever else is among them.
func isIntel(file string) bool {
	for i := range len(file) {
		if (i%3 == 2) != (file[i] == '-') || i%3 != 2 && !strings.ContainsRune("0123456789abcdef", rune(file[i])) {
			return false
		}
	}
	return len(file) == len("06-8e-0a")
}

// plainName returns the name of a file of firmware without what distributions add: how it is packed, and that Debian has some only
// for the initramfs.
func plainName(file string) string {
	for _, suffix := range []string{".xz", ".zst", ".initramfs"} {
		file = strings.TrimSuffix(file, suffix)
	}
	return file
}

// maxMicrocode bounds one file: the largest have a few MiB.
const maxMicrocode = 64 << 20

// unpacked returns the content of a file, which may be packed.
func unpacked(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	defer f.Close()
	plain, _, err := archive.Decompress(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	defer plain.Close()
	b, err := io.ReadAll(io.LimitReader(plain, maxMicrocode+1))
	if err == nil && len(b) > maxMicrocode {
		err = fmt.Errorf("more than %d MiB", maxMicrocode>>20)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return b, nil
}

// readMicrocode returns the files of a folder that fit, unpacked, one behind the other in the order of their names. Of a file in
// several firmware folders the first counts.
func readMicrocode(dirs []string, folder string, fits func(file string) bool) ([]byte, error) {
	files := map[string]string{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(filepath.Join(dir, folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("microcode: %w", err)
		}
		for _, e := range entries {
			name := plainName(e.Name())
			if !e.IsDir() && !strings.HasPrefix(name, ".") && files[name] == "" && fits(name) {
				files[name] = filepath.Join(dir, folder, e.Name())
			}
		}
	}
	var all []byte
	for _, name := range slices.Sorted(maps.Keys(files)) {
		b, err := unpacked(files[name])
		if err != nil {
			return nil, fmt.Errorf("microcode: %w", err)
		}
		all = append(all, b...)
	}
	return all, nil
}

// fitsProcessor reports whether a file is for a processor of the machines. Intel's are named FAMILY-MODEL-STEPPING in
// hexadecimal, AMD's after the family, but for the first ones, which are all in one.
func (b *builder) fitsProcessor(vendor, file string) bool {
	return slices.ContainsFunc(b.machines, func(p profile.Profile) bool {
		return slices.ContainsFunc(p.CPUs, func(c profile.CPU) bool {
			if c.Vendor != vendor {
				return false
			}
			if vendor == intelVendor {
				return file == fmt.Sprintf("%02x-%02x-%02x", c.Family, c.Model, c.Stepping)
			}
			name := "microcode_amd.bin"
			if c.Family >= 0x15 {
				name = fmt.Sprintf("microcode_amd_fam%02xh.bin", c.Family)
			}
			return file == name
		})
	})
}

// Alignments of the early archive.
const (
	earlyContent = 16  // of Intel's microcode, which older kernels hand to the processor where it lies
	earlyEnd     = 512 // of its end: the next archive begins at a multiple
)

// earlyArchive returns an uncompressed archive with the microcode of the two vendors. Its first file, early_cpio, is what
// lsinitrd(1) knows such an archive by; its length puts the microcode in its place.
func earlyArchive(spec Spec, amd, intel []byte) ([]byte, error) {
	const dir = "kernel/x86/microcode/"
	var entries []archive.Entry
	compose := func(filler int) int64 {
		var tree archive.Tree
		add := func(name string, content []byte) {
			if len(content) > 0 {
				_ = tree.Add(archive.Bytes(name, 0o644, content)) // a fixed name, added once
			}
		}
		add("early_cpio", []byte("1"+strings.Repeat("\n", filler)))
		add(dir+amdVendor+".bin", amd)
		add(dir+intelVendor+".bin", intel)
		entries = tree.Entries()
		if len(intel) == 0 {
			return 0
		}
		end := archive.Size(entries) - archive.Size(nil) // GenuineIntel.bin is the last entry
		return end - int64(len(intel)+3)&^3
	}
	for filler := 1; filler <= earlyContent && compose(filler)%earlyContent != 0; filler++ {
	}
	var out bytes.Buffer
	if _, err := archive.Write(&out, entries, spec.Time); err != nil {
		return nil, err
	}
	out.Write(make([]byte, (earlyEnd-out.Len()%earlyEnd)%earlyEnd))
	return out.Bytes(), nil
}
