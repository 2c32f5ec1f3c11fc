package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"hapax/tests/internal/debian"
)

// A tool is a program, or a file given by its absolute path, of a Debian package that make needs.
type tool struct {
	program string
	pkg     string
	run     bool // make run needs it as well as make test
}

// tools lists what is not part of a minimal Debian system. Every line has a user: add none in advance.
func tools() []tool {
	return []tool{
		{"qemu-system-x86_64", "qemu-system-x86", true},
		{"depmod", "kmod", true},
		{"mkfs.ext4", "e2fsprogs", false},   // the root file systems of guests
		{"mmdebstrap", "mmdebstrap", false}, // the roots of TestDebian
		// What rootdev's prober is compared with blkid on.
		{"cryptsetup", "cryptsetup-bin", false},
		{"genisoimage", "genisoimage", false},
		{"mdadm", "mdadm", false},
		{"mkfs.btrfs", "btrfs-progs", false},
		{"mkfs.erofs", "erofs-utils", false},
		{"mkfs.exfat", "exfatprogs", false},
		{"mkfs.f2fs", "f2fs-tools", false},
		{"mkfs.vfat", "dosfstools", false},
		{"mkfs.xfs", "xfsprogs", false},
		{"mkntfs", "ntfs-3g", false},
		{"mksquashfs", "squashfs-tools", false},
		{"mkudffs", "udftools", false},
		{"mlabel", "mtools", false},
		{"pvcreate", "lvm2", false},
		{"sfdisk", "fdisk", false},
		{"sgdisk", "gdisk", false},
		{"xorriso", "xorriso", false},
		// What it has to leave alone.
		{"genromfs", "genromfs", false},
		{"hformat", "hfsutils", false},
		{"make-bcache", "bcache-tools", false},
		{"mkapfs", "apfsprogs", false},
		{"mkfs.gfs2", "gfs2-utils", false},
		{"mkfs.jfs", "jfsutils", false},
		{"mkfs.nilfs2", "nilfs-tools", false},
		{"mkfs.ocfs2", "ocfs2-tools", false},
		{"mkfs.reiser4", "reiser4progs", false},
		{"mkfs.reiserfs", "reiserfsprogs", false},
		{"mkfs.ubifs", "mtd-utils", false},
		{"cpio", "cpio", false}, // reads images back
		{"xz", "xz-utils", false},
		{"zstd", "zstd", false},
		{"lz4", "lz4", false},
		{"bzip2", "bzip2", false}, // formats that only others write
		{"lzop", "lzop", false},
		{"kernel-install", "systemd", false},
		{"qemu-aarch64-static", "qemu-user-static", false}, // runs init/entry_arm64.s
		{"qemu-system-aarch64", "qemu-system-arm", false},  // boots images for arm64
		// What images that firmware starts are compared with.
		{"/usr/lib/systemd/boot/efi/linuxx64.efi.stub", "systemd-boot-efi", false},
		{"/usr/lib/x86_64-linux-gnu/engines-3/pkcs11.so", "libengine-pkcs11-openssl", false},
		{"bsdtar", "libarchive-tools", false},
		{"objdump", "binutils", false},
		{"openssl", "openssl", false},
		{"osslsigncode", "osslsigncode", false},
		{"qemu-img", "qemu-utils", false},
		{"sbverify", "sbsigntool", false},
		{"softhsm2-util", "softhsm2", false},
		{"gcc", "gcc", false}, // links the race detector
		{"/usr/include/stdlib.h", "libc6-dev", false},
		{"make", "make", false}, // builds the test modules, with gcc and the kernel's objtool, which needs the library
		{"/usr/lib/x86_64-linux-gnu/libelf.so.1", "libelf1", false},
		{"/usr/include/libkmod.h", "libkmod-dev", false}, // measured beside the module index
	}
}

// missing returns the packages of the tools that the purpose needs and the machine lacks, sorted.
func missing(all []tool, purpose string) []string {
	var pkgs []string
	for _, t := range all {
		if purpose == "run" && !t.run {
			continue
		}
		if !t.present() {
			pkgs = append(pkgs, t.pkg)
		}
	}
	slices.Sort(pkgs)
	return slices.Compact(pkgs)
}

func (t tool) present() bool {
	var err error
	if filepath.IsAbs(t.program) {
		_, err = os.Stat(t.program)
	} else {
		_, err = debian.Tool(t.program)
	}
	return err == nil
}

// apt runs apt-get for the machine. It refreshes the package lists at most once.
type apt struct {
	euid    int
	updated bool
}

func newApt() *apt { return &apt{euid: os.Geteuid()} }

// canUpdate tells whether update would do anything: it needs root, and the lists get no fresher by a second time.
func (a *apt) canUpdate() bool { return a.euid == 0 && !a.updated }

func (a *apt) update(ctx context.Context) error {
	progress("updating the package lists")
	a.updated = true
	return aptGet(ctx, "update")
}

// install installs packages, or says how to when the user may not.
func (a *apt) install(ctx context.Context, pkgs []string) error {
	if len(pkgs) == 0 {
		return nil
	}
	list := strings.Join(pkgs, " ")
	if a.euid != 0 {
		return fmt.Errorf("missing packages: %s\nas root: apt-get update && apt-get install --no-install-recommends %s", list, list)
	}
	if a.canUpdate() {
		if err := a.update(ctx); err != nil {
			return err
		}
	}
	progress("installing %s", list)
	return aptGet(ctx, append([]string{"install", "--yes", "--no-install-recommends"}, pkgs...)...)
}

func aptGet(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "DPkg::Lock::Timeout=120"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get %s: %w", strings.Join(args, " "), err)
	}
	return nil
}
