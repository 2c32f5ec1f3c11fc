package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"hapax/tests/internal/debian"
)

// overlayScript gives Debian's initramfs what root=overlay: is to hapax, after the interface of its live systems.
const overlayScript = `#!/bin/sh
[ "$1" = prereqs ] && exit 0
grep -qw testoverlay /proc/cmdline || exit 0
modprobe overlay
mkdir -p /run/overlay/lower /run/overlay/rw
mount -o move "$rootmnt" /run/overlay/lower
mount -t tmpfs tmpfs /run/overlay/rw
mkdir /run/overlay/rw/upper /run/overlay/rw/work
mount -t overlay -o lowerdir=/run/overlay/lower,upperdir=/run/overlay/rw/upper,workdir=/run/overlay/rw/work overlay "$rootmnt"
`

// DebianImage returns the initramfs that Debian's own initramfs-tools makes for k, with the drivers of all machines. The word
// testoverlay on the command line has it put a tmpfs over the root.
func (l *Lab) DebianImage(ctx context.Context, k debian.Kernel) (string, error) {
	script := filepath.Join(l.debianRoots(), recipeName("overlay", []string{overlayScript})+".sh")
	_, err := l.kept(script, func(tmp string) error { return os.WriteFile(tmp, []byte(overlayScript), 0o755) })
	if err != nil {
		return "", err
	}
	args, err := l.onBase(ctx, "--include=initramfs-tools", "--format=null",
		`--customize-hook=mkdir -p "$1/lib/modules" && cp -a `+k.ModulesDir+` "$1/lib/modules/" && cp `+k.Config+` "$1/boot/"`,
		`--customize-hook=cp `+script+` "$1/etc/initramfs-tools/scripts/init-bottom/overlay"`,
		`--customize-hook=printf '%s\n' overlay squashfs erofs >> "$1/etc/initramfs-tools/modules"`,
	)
	if err != nil {
		return "", err
	}
	file := filepath.Join(l.debianRoots(), recipeName("initramfs-tools-"+k.Release, args)+".img")
	return l.kept(file, func(tmp string) error {
		build := fmt.Sprintf(`--customize-hook=chroot "$1" mkinitramfs -o /boot/initrd %s && cp "$1/boot/initrd" %s`, k.Release, tmp)
		return run(ctx, "mmdebstrap", append(args, build, debianSuite, "/dev/null")...)
	})
}

// An EFI is what a machine with UEFI firmware needs to start Linux from a disk.
type EFI struct {
	Code, Vars string // OVMF: the program, and the variables as it is delivered, of which each machine needs a copy
	Loader     string // systemd-boot
	Stub       string // systemd's, which becomes a UKI
}

// EFI fetches Debian's OVMF and systemd-boot.
func (l *Lab) EFI(ctx context.Context) (EFI, error) {
	ovmf, err := l.store.Package(ctx, "ovmf")
	if err != nil {
		return EFI{}, err
	}
	loader, err := l.store.Package(ctx, "systemd-boot-efi")
	if err != nil {
		return EFI{}, err
	}
	programs := filepath.Join(loader.Root, "usr/lib/systemd/boot/efi")
	return EFI{
		Code:   filepath.Join(ovmf.Root, "usr/share/OVMF/OVMF_CODE_4M.fd"),
		Vars:   filepath.Join(ovmf.Root, "usr/share/OVMF/OVMF_VARS_4M.fd"),
		Loader: filepath.Join(programs, "systemd-bootx64.efi"),
		Stub:   filepath.Join(programs, "linuxx64.efi.stub"),
	}, nil
}

// Newer is what systemd of a release after that of the tests brings for UEFI: its stub knows sections that theirs ignores.
type Newer struct{ Stub, Loader string }

// NewerStub fetches systemd-boot of Debian's release after debianSuite, systemd 257.
func (l *Lab) NewerStub(ctx context.Context) (Newer, error) {
	const suite, folder = "trixie", "/usr/lib/systemd/boot/efi/"
	fetch := func(name string) (string, error) {
		return l.kept(filepath.Join(l.debianRoots(), suite+"-"+name), func(tmp string) error {
			args := append(mmdebstrapArgs(), "--variant=extract", "--format=null", "--include=systemd-boot-efi",
				fmt.Sprintf(`--extract-hook=cp "$1%s" %s`, folder+name, tmp))
			return run(ctx, "mmdebstrap", append(args, suite, "/dev/null")...)
		})
	}
	stub, err := fetch("linuxx64.efi.stub")
	if err != nil {
		return Newer{}, err
	}
	loader, err := fetch("systemd-bootx64.efi")
	return Newer{stub, loader}, err
}

// WriteESP makes a FAT file system from which firmware starts systemd-boot, and that the kernel at once.
func (e EFI) WriteESP(ctx context.Context, file string, sector int, kernel, initrd, cmdline string) error {
	if err := blank(file, espBytes); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "hapax-esp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	texts := map[string]string{
		"loader.conf": "timeout 0\n",
		"hapax.conf":  "title hapax\nlinux /linux\ninitrd /initrd\noptions " + cmdline + "\n",
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	err = run(ctx, "mkfs.vfat", "-F", "32", "-S", fmt.Sprint(sector), "-s", "1", file)
	if err != nil {
		return err
	}
	for _, folder := range []string{"EFI", "EFI/BOOT", "loader", "loader/entries"} {
		if err := run(ctx, "mmd", "-i", file, "::"+folder); err != nil {
			return err
		}
	}
	for _, copied := range [][2]string{
		{e.Loader, "EFI/BOOT/BOOTX64.EFI"}, {kernel, "linux"}, {initrd, "initrd"},
		{filepath.Join(dir, "loader.conf"), "loader/loader.conf"}, {filepath.Join(dir, "hapax.conf"), "loader/entries/hapax.conf"},
	} {
		if err := run(ctx, "mcopy", "-i", file, copied[0], "::"+copied[1]); err != nil {
			return err
		}
	}
	return nil
}

// espBytes has room for a kernel and its initramfs, and enough clusters of 4 KiB for FAT32.
const espBytes = 300 << 20
