package rootdev

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount mounts the device file src on the directory target. fstype is a type, or a comma list of types
// that are tried in order, as in rootfstype=. flags are the options of rootflags=, in the form of mount(8);
// a ro or rw among them outranks readWrite. Loading the file system's module is the caller's business.
//
// A device that is write-protected is not mounted read-only behind the caller's back: the error says what
// to do. Any error wraps the errno of mount(2), if it came to that.
func Mount(src, target, fstype, flags string, readWrite bool) error {
	return mountBy(unix.Mount, src, target, fstype, flags, readWrite)
}

// mountFunc is mount(2).
type mountFunc func(source, target, fstype string, flags uintptr, data string) error

func mountBy(mount mountFunc, src, target, fstype, options string, readWrite bool) error {
	flags, data, err := parseOptions(options, readWrite)
	if err != nil {
		return err
	}
	var failed error
	for one := range strings.SplitSeq(fstype, ",") {
		if one == "" || one == "auto" {
			continue
		}
		err := mount(src, target, one, flags, data)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("%s as %s: %w%s", src, printable(one), err, remedy(err, data))
		if failed == nil {
			failed = err
		} else {
			failed = fmt.Errorf("%w; %w", failed, err)
		}
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENODEV) {
			break // not a matter of the type
		}
	}
	if failed == nil {
		failed = fmt.Errorf("%s: %w", src, errNoType)
	}
	return fmt.Errorf("mount on %s: %w", target, failed)
}

// remedy says, after an errno of mount(2), what a person can do.
func remedy(err error, data string) string {
	switch {
	case errors.Is(err, unix.ENODEV):
		return ": the kernel does not know this file system; put its module into the image"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EROFS):
		return ": the device is write-protected; boot with ro instead of rw"
	case errors.Is(err, unix.EINVAL) && data != "":
		return fmt.Sprintf(": another file system, a damaged one, or a bad option in %q; the kernel log says which", data)
	case errors.Is(err, unix.EINVAL):
		return ": another file system, or a damaged one; the kernel log says which"
	case errors.Is(err, unix.EUCLEAN), errors.Is(err, unix.EBADMSG):
		return ": the file system is damaged; check it with fsck"
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENOMEDIUM):
		return ": the device is gone or has no medium"
	}
	return ""
}
