package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"hapax/tests/internal/debian"
)

// FaultInit builds an init that the kernel argument hapax.fault= makes fail (package fault in init/internal).
func (l *Lab) FaultInit(ctx context.Context) (string, error) {
	return l.made.file("init-fault", func() (string, error) {
		file := filepath.Join(l.Build, "tests/init-fault")
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "faultinject", "-ldflags=-s -w", "-o", file, "./init")
		cmd.Dir, cmd.Env = l.Root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build ./init with faultinject: %w: %s", err, out)
		}
		return file, nil
	})
}

// FaultImage returns an image with that init, and what it takes to mount an ext4 root on virtio.
func (l *Lab) FaultImage(ctx context.Context, k debian.Kernel) (string, error) {
	init, err := l.FaultInit(ctx)
	if err != nil {
		return "", err
	}
	return l.HapaxImage(ctx, k, "--mode", "custom", "--modules", "virtio_pci,virtio_blk,ext4,pvpanic_mmio", "--init", init)
}
