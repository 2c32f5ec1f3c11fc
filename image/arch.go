package image

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"hapax/image/modfile"
)

// NativeArch stands for the architecture of this program in Spec.Arch.
const NativeArch Arch = "native"

// An Arch is what the processors of an image's machines are, as GOARCH has it, or NativeArch.
type Arch string

// Arches returns the architectures of images, the default first.
func Arches() []Arch { return []Arch{NativeArch, "amd64", "arm64", "riscv64"} }

// UnmarshalText refuses what is no architecture.
func (a *Arch) UnmarshalText(text []byte) error { return unmarshalWord(a, Arches(), text) }

// name returns what GOARCH has for it.
func (a Arch) name() string {
	if a == NativeArch || a == "" {
		return runtime.GOARCH
	}
	return string(a)
}

// machines are the architectures by their numbers in ELF files.
func machines() map[elf.Machine]string {
	return map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_RISCV: "riscv64"}
}

// elfArch returns the architecture of an ELF file by its first bytes, "" for any other file and for machines that no image is
// built for.
func elfArch(r io.Reader) string {
	head := make([]byte, 20) // e_ident and the fields e_type and e_machine
	if _, err := io.ReadFull(r, head); err != nil || string(head[:4]) != elf.ELFMAG || head[elf.EI_DATA] != byte(elf.ELFDATA2LSB) {
		return ""
	}
	return machines()[elf.Machine(binary.LittleEndian.Uint16(head[18:]))]
}

// checkArch refuses modules and programs of another architecture than the image's, with which it would not boot. That it is
// none of these at all is for others to find.
func (b *builder) checkArch(context.Context) error {
	if len(b.modules) > 0 { // one speaks for all of a tree
		file := filepath.Join(b.index.Dir(), b.modules[0].Path)
		if plain, err := modfile.Open(file); err == nil {
			arch := elfArch(plain)
			plain.Close()
			if err := b.sameArch(file, arch); err != nil {
				return err
			}
		}
	}
	files := []string{b.spec.Init}
	if b.spec.Shell != NoShell && b.spec.Shell != URootShell {
		files = append(files, b.spec.Shell)
	}
	for _, program := range b.programs {
		files = append(files, filepath.Join(b.spec.Root, program))
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		arch := elfArch(f)
		f.Close()
		if err := b.sameArch(file, arch); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) sameArch(file, arch string) error {
	if want := b.spec.Arch.name(); arch != "" && arch != want {
		return fmt.Errorf("%s is for %s, the image for %s: take another file, or say --arch %s", file, arch, want, arch)
	}
	return nil
}
