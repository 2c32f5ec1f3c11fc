package image

import (
	"debug/elf"
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"hapax/image/assets"
	"hapax/image/resolve"
)

// elfHead returns the first bytes of an ELF file for a machine.
func elfHead(m elf.Machine) string {
	return "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 11) + string([]byte{byte(m), byte(m >> 8)}) + strings.Repeat("\x00", 44)
}

// What is for another architecture than the image ends the build, with the way out.
func TestArch(t *testing.T) {
	t.Parallel()
	foreign, machine := "arm64", elf.EM_AARCH64
	if runtime.GOARCH == foreign {
		foreign, machine = "amd64", elf.EM_X86_64
	}
	const module = "kernel/drivers/block/virtio_blk.ko"
	for name, tt := range map[string]struct {
		change func(*Spec)
		want   string // of the error; "": none
	}{
		"a tree of another": {func(s *Spec) { writeFile(t, filepath.Join(s.ModulesDir, module), elfHead(machine), 0o644) },
			module + " is for " + foreign + ", the image for " + runtime.GOARCH + ": take another file, or say --arch " + foreign},
		"and the image, too": {func(s *Spec) {
			writeFile(t, filepath.Join(s.ModulesDir, module), elfHead(machine), 0o644)
			writeFile(t, s.Init, elfHead(machine), 0o755)
			s.Arch = Arch(foreign)
		}, ""},
		"an init of another": {func(s *Spec) { writeFile(t, s.Init, elfHead(machine), 0o755) }, "init is for " + foreign},
		"a shell of another": {func(s *Spec) {
			s.Shell = filepath.Join(s.ModulesDir, "shell")
			writeFile(t, s.Shell, elfHead(machine), 0o755)
		}, "shell is for " + foreign},
		"u-root's shell": {func(s *Spec) { s.Arch, s.Shell = Arch(foreign), URootShell }, "give --shell FILE"},
		"a machine that has no name here": {func(s *Spec) {
			writeFile(t, filepath.Join(s.ModulesDir, module), elfHead(elf.EM_S390), 0o644)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := testSpec(t)
			spec.Mode, spec.Modules = Custom, []resolve.Rule{{Name: "virtio_blk"}}
			tt.change(&spec)
			_, err := Build(t.Context(), spec)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Build = %v, want %q", err, tt.want)
			}
		})
	}
	spec := testSpec(t)
	spec.Init, spec.Arch = "", "riscv64"
	if _, err := Build(t.Context(), spec); err != nil && !errors.Is(err, assets.ErrMissing) {
		t.Errorf("Build with an init that this hapax may not have = %v", err)
	}
}
