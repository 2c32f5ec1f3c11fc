package lab

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"hapax/tests/internal/debian"
)

// A Disk is an ext4 file system in a raw image.
type Disk struct {
	File string
	UUID string
}

// RootDisk makes a root file system whose files fill puts into a folder; without fill its /sbin/init is the guest program.
// The image is new for each call, at the path given.
func (l *Lab) RootDisk(ctx context.Context, file, uuid string, fill func(root string) error) (Disk, error) {
	mkfs, err := debian.Tool("mkfs.ext4")
	if err != nil {
		return Disk{}, err
	}
	dir, err := os.MkdirTemp("", "hapax-root-")
	if err != nil {
		return Disk{}, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return Disk{}, err
	}
	for _, d := range []string{"dev", "proc", "sys", "run", "tmp", "sbin"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return Disk{}, err
		}
	}
	if fill == nil {
		fill = func(root string) error { return l.InstallGuest(ctx, filepath.Join(root, "sbin/init")) }
	}
	if err := fill(dir); err != nil {
		return Disk{}, err
	}
	size, err := sizeFor(dir)
	if err != nil {
		return Disk{}, err
	}
	out, err := exec.CommandContext(ctx, mkfs, "-q", "-F", "-U", uuid, "-L", "hapax-test", "-d", dir, file, size).CombinedOutput()
	if err != nil {
		return Disk{}, fmt.Errorf("mkfs.ext4 %s: %w: %s", file, err, out)
	}
	return Disk{File: file, UUID: uuid}, nil
}

// sizeFor returns a size, as mkfs.ext4 takes it, for a file system with the files of a folder and some more: 32 MiB if they are few.
func sizeFor(dir string) (string, error) {
	var total int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size() + 4096
		}
		return err
	})
	const mebibyte, spare = 1 << 20, 24 << 20
	return fmt.Sprintf("%dM", max(32, (total+total/4+spare)/mebibyte)), err
}

// InstallGuest copies the guest program to a path.
func (l *Lab) InstallGuest(ctx context.Context, path string) error {
	program, err := l.Guest(ctx)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o755)
}
