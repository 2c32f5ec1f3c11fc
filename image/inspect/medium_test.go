package inspect

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hapax/image/archive"
	"hapax/image/disk"
	"hapax/image/disk/fat"
	"hapax/image/vmlinuz"
)

// diskFile writes a disk with files on its EFI system partition.
func diskFile(t *testing.T, content map[string]string) string {
	t.Helper()
	var esp []fat.File
	for name, text := range content {
		esp = append(esp, fat.File{Name: name, Content: section(text)})
	}
	m, err := disk.New(disk.Spec{ESP: esp, Time: time.Unix(0, 0)}, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.WriteRaw(t.Context(), f), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// unified returns a unified kernel image whose initramfs has one file.
func unified(name string) string {
	return peFile(part{name: ".text", content: "stub"}, part{name: ".uname", content: "6.1.0"},
		part{name: ".initrd", content: newc(rec{name: name, mode: regular, content: "1"})}, part{name: ".linux", content: bzImage("6.1.0")})
}

func TestMedium(t *testing.T) {
	t.Parallel()
	loader := peFile(part{name: ".text", content: "systemd-boot"})
	entry := "title t\nversion 6.1.0\nlinux /hapax/linux\ninitrd /hapax/microcode\ninitrd\t/hapax/initrd\noptions root=/dev/vda\noptions quiet\n"
	bls := map[string]string{
		"EFI/BOOT/BOOTX64.EFI": loader, "loader/entries/hapax-6.1.0.conf": entry, "hapax/linux": bzImage("6.1.0"),
		"hapax/microcode": newc(rec{name: "early", mode: regular, content: "1"}),
		"hapax/initrd":    squeeze(t, archive.Zstd, newc(rec{name: "main", mode: regular, content: "2"})),
	}
	for name, tt := range map[string]struct {
		content map[string]string
		inside  string // of the name
		found   string // the name in the Source
		kind    Kind
		files   []string
		cmdline string
	}{
		"a UKI": {map[string]string{"EFI/BOOT/BOOTX64.EFI": unified("main")}, "", ":EFI/BOOT/BOOTX64.EFI", UKI, []string{"main = 1 (1)"}, ""},
		"a UKI behind a loader": {map[string]string{"EFI/BOOT/BOOTX64.EFI": loader, "EFI/Linux/a.efi": unified("a")}, "", ":EFI/Linux/a.efi", UKI,
			[]string{"a = 1 (1)"}, ""},
		"one of two": {map[string]string{"EFI/Linux/a.efi": unified("a"), "EFI/Linux/b.efi": unified("b")}, ":/efi/linux/B.EFI", ":/efi/linux/B.EFI", UKI,
			[]string{"b = 1 (1)"}, ""},
		"an entry":     {bls, "", ":loader/entries/hapax-6.1.0.conf", Initramfs, []string{"early = 1 (1)", "main = 2 (1)"}, "root=/dev/vda quiet"},
		"an initramfs": {bls, ":hapax/initrd", ":hapax/initrd", Initramfs, []string{"main = 2 (1)"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := diskFile(t, tt.content)
			s, err := Open(t.Context(), file+tt.inside)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if s.Name != file+tt.found || s.Kind != tt.kind || s.Cmdline != tt.cmdline {
				t.Errorf("Source %s, %s, %q; want %s, %s, %q", s.Name, s.Kind, s.Cmdline, file+tt.found, tt.kind, tt.cmdline)
			}
			if !strings.HasSuffix(tt.found, "initrd") && vmlinuz.Release(s.Kernel) != "6.1.0" {
				t.Errorf("kernel %q", vmlinuz.Release(s.Kernel))
			}
			tree, err := Read(s, Options{Spare: 100})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.files, describe(t, tree)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMediumRefuses(t *testing.T) {
	t.Parallel()
	entry := func(text string) map[string]string { return map[string]string{"loader/entries/a.conf": text} }
	for name, tt := range map[string]struct {
		content      map[string]string
		inside, want string
	}{
		"none":              {map[string]string{"EFI/BOOT/BOOTX64.EFI": peFile(part{name: ".text"}), "a": ""}, "", "no image on its EFI system partition: there are EFI/BOOT/BOOTX64.EFI, a"},
		"two":               {map[string]string{"EFI/Linux/a.efi": unified("a"), "EFI/Linux/b.efi": unified("b")}, "", "several images: name one, as "},
		"absent":            {map[string]string{"a": ""}, ":b", "no such file on its EFI system partition: there are a"},
		"an absent initrd":  {entry("initrd /x\n"), "", "it names /x, which is not on"},
		"no initrd":         {entry("title t\n"), "", "names no initrd"},
		"an endless entry":  {entry(strings.Repeat("#", maxText+1)), "", "of that size is none"},
		"a loader by name":  {map[string]string{"a.efi": peFile(part{name: ".text"})}, ":a.efi", "without a section .initrd"},
		"no disk to open":   {nil, ":a", "neither a disk nor a CD"},
		"nothing but a tip": {nil, ":", "no such file or directory"},
	} {
		file := filepath.Join(t.TempDir(), "initrd")
		if tt.content != nil {
			file = diskFile(t, tt.content)
		} else if err := os.WriteFile(file, []byte(newc()), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), file+tt.inside); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want an error with %q and the file", name, err, tt.want)
		}
	}
}
