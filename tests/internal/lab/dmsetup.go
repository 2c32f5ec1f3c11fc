package lab

import (
	"context"
	"strings"

	"hapax/image/archive"
)

// WithDmsetup writes an image that is base followed by Debian's dmsetup with its rules for udev, and a group file.
func (l *Lab) WithDmsetup(ctx context.Context, path, base string, groups []byte) error {
	library := func(name string) bool { return strings.HasPrefix(name, "lib") }
	pkgs, err := l.store.Closure(ctx, library, "dmsetup")
	if err != nil {
		return err
	}
	t := &tree{}
	t.folder(pkgs[0].Root, ".", inUdevdImage)
	t.libraries(pkgs)
	t.add(archive.Bytes("etc/group", 0o644, groups))
	if t.err != nil {
		return t.err
	}
	return appended(path, base, t)
}
