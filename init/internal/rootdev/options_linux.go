package rootdev

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// maxData is the page that mount(2) copies for the file system, less its NUL.
const maxData = 4095

// parseOptions splits the options of mount(8) into the flags of mount(2) and the rest, which is for the
// file system. It begins with ro, or rw if readWrite; of options that contradict each other the last
// counts. A comma inside quotes separates nothing, as in an SELinux context.
func parseOptions(options string, readWrite bool) (flags uintptr, data string, err error) {
	if strings.ContainsFunc(options, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return 0, "", fmt.Errorf("rootflags=%q: control character", options)
	}
	if !readWrite {
		flags = unix.MS_RDONLY
	}
	var rest []string
	for options != "" {
		var option string
		option, options = cutOption(options)
		if option == "" || forUserSpace(option) {
			continue
		}
		if set, reset, ok := flagsOf(option); ok {
			flags = flags&^reset | set
		} else {
			rest = append(rest, option)
		}
	}
	if data = strings.Join(rest, ","); len(data) > maxData {
		return 0, "", fmt.Errorf("rootflags=: %d bytes of options, the kernel takes %d", len(data), maxData)
	}
	return flags, data, nil
}

// cutOption returns the first option of s, which is not empty, and what follows its comma.
func cutOption(s string) (option, rest string) {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// flagsOf returns which flags an option of the VFS, not empty, sets, and which it resets before that.
func flagsOf(option string) (set, reset uintptr, ok bool) {
	const atimes = unix.MS_NOATIME | unix.MS_RELATIME | unix.MS_STRICTATIME
	for _, o := range []struct {
		on, off string
		flag    uintptr
	}{
		{"ro", "rw", unix.MS_RDONLY},
		{"nosuid", "suid", unix.MS_NOSUID},
		{"nodev", "dev", unix.MS_NODEV},
		{"noexec", "exec", unix.MS_NOEXEC},
		{"sync", "async", unix.MS_SYNCHRONOUS},
		{"dirsync", "", unix.MS_DIRSYNC},
		{"nodiratime", "diratime", unix.MS_NODIRATIME},
		{"lazytime", "nolazytime", unix.MS_LAZYTIME},
		{"iversion", "noiversion", unix.MS_I_VERSION},
		{"nosymfollow", "symfollow", unix.MS_NOSYMFOLLOW},
		{"silent", "loud", unix.MS_SILENT},
		{"", "norelatime", unix.MS_RELATIME},
		{"", "nostrictatime", unix.MS_STRICTATIME},
	} {
		switch option {
		case o.on:
			return o.flag, o.flag, true
		case o.off:
			return 0, o.flag, true
		}
	}
	switch option {
	case "atime":
		return 0, unix.MS_NOATIME, true
	case "noatime":
		return unix.MS_NOATIME, atimes, true
	case "relatime":
		return unix.MS_RELATIME, atimes, true
	case "strictatime":
		return unix.MS_STRICTATIME, atimes, true
	}
	return 0, 0, false
}

// forUserSpace reports whether option is one that fstab(5) keeps for the tools around mount. To libmount
// "defaults" changes nothing either.
func forUserSpace(option string) bool {
	switch option {
	case "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail":
		return true
	}
	return strings.HasPrefix(option, "x-") || strings.HasPrefix(option, "X-") || strings.HasPrefix(option, "comment=")
}

// errNoType says that Mount was given neither a type nor a probed one.
var errNoType = errors.New("unknown file system; say which by rootfstype=")
