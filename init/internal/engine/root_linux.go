package engine

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"hapax/init/internal/rootdev"
)

// overlayDir holds what is below a root of overlay:REF. It lies in /run, which
// the real root keeps.
const overlayDir = "/run/hapax/overlay"

// mountOverlay mounts a tmpfs over the read-only file system at
// overlayDir/lower, and both at target.
func mountOverlay(target string) error {
	const rw = overlayDir + "/rw"
	for _, dir := range []string{rw, target} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("tmpfs", rw, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", rw, err)
	}
	for _, dir := range []string{rw + "/upper", rw + "/work"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	data := "lowerdir=" + overlayDir + "/lower,upperdir=" + rw + "/upper,workdir=" + rw + "/work"
	if err := unix.Mount("overlay", target, "overlay", 0, data); err != nil {
		return fmt.Errorf("mount an overlay on %s: %w; put the module overlay into the image", target, err)
	}
	return nil
}

// inSysfs reports whether the kernel still has a block device.
func inSysfs(d rootdev.Device) bool {
	_, err := os.Lstat("/sys/dev/block/" + d.Devno.String())
	return err == nil
}

const (
	efivars = "/sys/firmware/efi/efivars"
	// loaderVariable is set by boot loaders that follow the Boot Loader Interface of systemd.
	loaderVariable = efivars + "/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
)

// loaderPartition returns the PARTUUID of the partition that the boot loader
// was started from.
func loaderPartition() (string, error) {
	err := unix.Mount("efivarfs", efivars, "efivarfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, "")
	if err == nil {
		defer unix.Unmount(efivars, unix.MNT_DETACH)
	}
	content, readErr := os.ReadFile(loaderVariable)
	if readErr != nil {
		err = readErr
	} else {
		var uuid string
		if uuid, err = parseLoaderPartition(content); err == nil {
			return uuid, nil
		}
	}
	return "", fmt.Errorf("root=gpt-auto needs a boot loader that says where it is, such as systemd-boot or systemd-stub: %w", err)
}

// parseLoaderPartition reads the content of a file of efivarfs: four bytes of
// attributes, then the UUID in UTF-16, little-endian, with a NUL at its end.
func parseLoaderPartition(content []byte) (string, error) {
	const most = 4 + 2*64
	if len(content) < 4 || len(content) > most {
		return "", fmt.Errorf("LoaderDevicePartUUID has %d bytes", len(content))
	}
	var uuid []byte
	for b := content[4:]; len(b) >= 2 && (b[0] != 0 || b[1] != 0); b = b[2:] {
		c := b[0]
		if 'A' <= c && c <= 'F' {
			c += 'a' - 'A'
		}
		if b[1] != 0 || !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || c == '-') {
			return "", errors.New("LoaderDevicePartUUID is no UUID")
		}
		uuid = append(uuid, c)
	}
	if len(uuid) == 0 {
		return "", errors.New("LoaderDevicePartUUID is empty")
	}
	return string(uuid), nil
}
