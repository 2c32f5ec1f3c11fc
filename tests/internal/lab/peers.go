package lab

import (
	"context"
	"fmt"
	"path/filepath"

	"hapax/tests/internal/debian"
)

// PeerImage returns the initramfs for k that Debian's package of that name makes, "initramfs-tools" or "dracut", with the
// drivers of all machines, as installed beside systemd on a fresh system and with nothing configured.
func (l *Lab) PeerImage(ctx context.Context, k debian.Kernel, name string) (string, error) {
	build := map[string]string{
		"initramfs-tools": "mkinitramfs -o /boot/initrd " + k.Release,
		"dracut":          "dracut --quiet --no-hostonly --kver " + k.Release + " /boot/initrd",
	}[name]
	if build == "" {
		return "", fmt.Errorf("lab: no package %s makes an initramfs here", name)
	}
	args, err := l.onBase(ctx, "--include=systemd-sysv,zstd,"+name, "--format=null",
		`--customize-hook=mkdir -p "$1/lib/modules" && cp -a `+k.ModulesDir+` "$1/lib/modules/" && cp `+k.Config+` "$1/boot/"`)
	if err != nil {
		return "", err
	}
	file := filepath.Join(l.debianRoots(), recipeName("peer-"+name+"-"+k.Release, append(args, build))+".img")
	return l.kept(file, func(tmp string) error {
		hook := fmt.Sprintf(`--customize-hook=chroot "$1" %s && cp "$1/boot/initrd" %s`, build, tmp)
		return run(ctx, "mmdebstrap", append(args, hook, debianSuite, "/dev/null")...)
	})
}
