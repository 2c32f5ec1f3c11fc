package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// What the file systems of Debian roots are named, where the file system has room for it.
const (
	DebianUUID  = "3f4c1d52-8a0b-4c0e-9a66-5d1e7b2c9001"
	DebianLabel = "hapax-root"
)

// DebianSubvolume is what the root on btrfs lies in, as Debian's installer names it.
const DebianSubvolume = "@rootfs"

// debianBytes is the size of the writable file systems.
const debianBytes = 512 << 20

// A DebianFS is a file system that roots of Debian are made on.
type DebianFS struct {
	Name    string
	Overlay bool   // it cannot be written, and lies below a tmpfs
	UUID    bool   // it carries DebianUUID
	Label   bool   // it carries DebianLabel
	Cloud   bool   // the kernels for the cloud have it
	Args    string // what the kernel command line needs for it beside root=, "" for nothing
	fill    func(ctx context.Context, dir, file string) error
}

// DebianFileSystems returns the file systems that roots of Debian are made on.
func DebianFileSystems() []DebianFS {
	return []DebianFS{
		{Name: "ext4", UUID: true, Label: true, Cloud: true, fill: func(ctx context.Context, dir, file string) error {
			return run(ctx, "mkfs.ext4", "-q", "-F", "-U", DebianUUID, "-L", DebianLabel, "-d", dir, file, "512M")
		}},
		{Name: "xfs", UUID: true, Label: true, Cloud: true, fill: fillXFS},
		{Name: "btrfs", UUID: true, Label: true, Cloud: true, Args: "rootflags=subvol=" + DebianSubvolume, fill: fillBtrfs},
		// Linux 6.1 crashes at the first fsync after f2fs was mounted read-only and is remounted: it has no fcc_info then
		// (f2fs_issue_flush), whoever mounted it.
		{Name: "f2fs", UUID: true, Label: true, Args: "rw", fill: fillF2FS},
		{Name: "squashfs", Overlay: true, Cloud: true, fill: func(ctx context.Context, dir, file string) error {
			return run(ctx, "mksquashfs", dir, file, "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "1")
		}},
		{Name: "erofs", Overlay: true, UUID: true, Cloud: true, fill: func(ctx context.Context, dir, file string) error {
			return run(ctx, "mkfs.erofs", "--quiet", "-zlz4", "-U", DebianUUID, file, dir)
		}},
	}
}

func fillXFS(ctx context.Context, dir, file string) error {
	if err := blank(file, debianBytes); err != nil {
		return err
	}
	// Sectors of 4 KiB fit disks of both kinds.
	err := run(ctx, "mkfs.xfs", "-q", "-f", "-s", "size=4096", "-m", "uuid="+DebianUUID, "-L", DebianLabel, file)
	if err != nil {
		return err
	}
	return mounted(ctx, file, func(at string) error { return run(ctx, "cp", "-a", dir+"/.", at) })
}

func fillBtrfs(ctx context.Context, dir, file string) error {
	if err := blank(file, debianBytes); err != nil {
		return err
	}
	if err := run(ctx, "mkfs.btrfs", "-q", "-f", "-U", DebianUUID, "-L", DebianLabel, file); err != nil {
		return err
	}
	return mounted(ctx, file, func(at string) error {
		at = filepath.Join(at, DebianSubvolume)
		if err := run(ctx, "btrfs", "-q", "subvolume", "create", at); err != nil {
			return err
		}
		return run(ctx, "cp", "-a", dir+"/.", at)
	})
}

func fillF2FS(ctx context.Context, dir, file string) error {
	if err := blank(file, debianBytes); err != nil {
		return err
	}
	if err := run(ctx, "mkfs.f2fs", "-q", "-f", "-U", DebianUUID, "-l", DebianLabel, file); err != nil {
		return err
	}
	return run(ctx, "sload.f2fs", "-P", "-T", "0", "-f", dir, "-t", "/", file)
}

// blank makes a file of zeros that takes no space.
func blank(file string, size int64) error {
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		return err
	}
	return os.Truncate(file, size)
}

// mounted calls fill with a folder that the file system of the image is mounted on.
func mounted(ctx context.Context, file string, fill func(at string) error) error {
	at, err := os.MkdirTemp("", "hapax-mount-")
	if err != nil {
		return err
	}
	defer os.Remove(at)
	if err := run(ctx, "mount", "-o", "loop", file, at); err != nil {
		return fmt.Errorf("%w: the root needs the host's kernel to know its file system and loop devices", err)
	}
	// A mount outlives whoever made it, so this one is taken down whatever ctx says.
	return errors.Join(fill(at), run(context.WithoutCancel(ctx), "umount", at))
}

// DebianRoot returns an image of a file system with Debian and an init of DebianInits on it: it asks for a name on the first
// serial port, lets root in without a password, and prints what a test wants to know (see debianProfile). The image is kept
// for the next run, so nobody may write to it.
func (l *Lab) DebianRoot(ctx context.Context, init string, fs DebianFS) (string, error) {
	tree, err := l.debianTree(ctx, init)
	if err != nil {
		return "", err
	}
	base := strings.TrimSuffix(filepath.Base(tree), ".tar")
	recipe := append(debianFiles(fs), fs.Name)
	file := filepath.Join(l.debianRoots(), recipeName(base, recipe)+"."+fs.Name)
	return l.kept(file, func(tmp string) error {
		dir, err := os.MkdirTemp("", "hapax-debian-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := run(ctx, "tar", "-xf", tree, "-C", dir); err != nil {
			return err
		}
		if err := configure(dir, debianFiles(fs)); err != nil {
			return err
		}
		return fs.fill(ctx, dir, tmp)
	})
}

// debianFiles returns what is written into a root that mmdebstrap has made: names and contents in turn.
func debianFiles(fs DebianFS) []string {
	mount, fstype, options, pass := "UUID="+DebianUUID, fs.Name, "defaults", "0"
	switch {
	case fs.Overlay:
		mount, fstype = "overlay", "overlay"
	case fs.Name == "btrfs":
		options = "subvol=" + DebianSubvolume
	case fs.Name == "ext4":
		pass = "1"
	}
	return []string{
		"etc/hostname", "hapax\n",
		"etc/fstab", strings.Join([]string{mount, "/", fstype, options, "0", pass}, " ") + "\n",
		"root/.hushlogin", "",
		"root/.profile", debianProfile,
	}
}

// configure writes files into a root and opens its serial console to everybody.
func configure(dir string, files []string) error {
	for pair := range slices.Chunk(files, 2) {
		if err := os.WriteFile(filepath.Join(dir, pair[0]), []byte(pair[1]), 0o644); err != nil {
			return err
		}
	}
	if err := replace(filepath.Join(dir, "etc/shadow"), "root:*:", "root::"); err != nil {
		return err
	}
	// sysvinit has the line for the serial port commented out. The others find out for themselves.
	inittab := filepath.Join(dir, "etc/inittab")
	if _, err := os.Stat(inittab); err != nil {
		return nil
	}
	return replace(inittab, "#T0:", "T0:")
}

// replace exchanges a text that has to be in a file.
func replace(file, from, to string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !strings.Contains(string(b), from) {
		return fmt.Errorf("%s: no %q in it", file, from)
	}
	return os.WriteFile(file, []byte(strings.Replace(string(b), from, to, 1)), 0o644)
}

// debianProfile is what the shell of root runs: one line for each fact, each beginning with the word fact.
const debianProfile = `dmesg --console-off
fact() { printf 'fact %s\n' "$*"; }
fact begin
fact init "$(cat /proc/1/comm)"
fact root "$(findmnt --noheadings --raw --output FSTYPE,OPTIONS /)"
fact device "$(findmnt --noheadings --raw --output SOURCE / | sed 's/\[.*//')"
case $(cat /proc/1/comm) in
systemd)
	fact state "$(systemctl is-system-running --wait)"
	fact analyze "$(systemd-analyze time | head -n 1)"
	systemctl list-units --failed --plain --no-legend --full | while read -r unit rest; do fact failed "$unit"; done
	journalctl --boot --output=cat --identifier=hapax | while read -r line; do fact log "$line"; done ;;
init)
	fact state "runlevel $(runlevel)" ;;
runit)
	fact state "$(sv status getty-ttyS0)" ;;
esac
dmesg --notime | grep hapax: | while read -r line; do fact dmesg "$line"; done
cd /dev/disk && for link in by-id/* by-path/*; do fact link "$link"; done
fact end
`
