package rootdev

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Links keeps the links below a directory, /dev, that lead to block devices.
//
// When several devices claim a name the one that claimed it first has it for as long as it does; then the
// next in order takes over. systemd-udevd gives it to the last one, but the Finder takes the first of two
// devices for the root, and both should mean the same one. All methods may be called concurrently.
type Links struct {
	dir  string
	root int // an open file of it

	mu     sync.Mutex
	claims []claim // in the order in which they came
}

// A claim is the wish of a device to have a link.
type claim struct{ link, device string }

// NewLinks returns Links below dir, which must exist. Nothing that a name or a link in dir says makes it
// leave dir. Links that are already there stay until a device claims their name.
func NewLinks(dir string) (*Links, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("links: %s: %w", dir, err)
	}
	return &Links{dir: dir, root: root}, nil
}

// Close releases the directory. The links stay.
func (l *Links) Close() error { return unix.Close(l.root) }

// Set makes the device, a name below dir, have these links and no other, as Names returns them: on its add
// and its change event, and without links on its remove event. The error joins one for each link that could
// not be made or taken away; the others are as they should be.
func (l *Links) Set(device string, links []string) error {
	if err := checkName(device); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := slices.Clone(links)
	l.claims = slices.DeleteFunc(l.claims, func(c claim) bool {
		if c.device != device || slices.Contains(links, c.link) {
			return false
		}
		changed = append(changed, c.link)
		return true
	})
	for _, link := range links {
		if c := (claim{link, device}); !slices.Contains(l.claims, c) {
			l.claims = append(l.claims, c)
		}
	}
	var errs []error
	for _, link := range changed {
		errs = append(errs, l.settle(link))
	}
	return errors.Join(errs...)
}

// Owners returns the devices that claim a link, in order: the link leads to the first one.
func (l *Links) Owners(link string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owners(link)
}

func (l *Links) owners(link string) []string {
	var devices []string
	for _, c := range l.claims {
		if c.link == link {
			devices = append(devices, c.device)
		}
	}
	return devices
}

// settle makes the link lead where it should.
func (l *Links) settle(link string) error {
	if devices := l.owners(link); len(devices) > 0 {
		return l.point(link, devices[0])
	}
	return l.unlink(link)
}

// point makes the link lead to the device, in one step if it led to another.
func (l *Links) point(link, device string) error {
	if !fs.ValidPath(link) || link == "." {
		return fmt.Errorf("links: %s is no name below %s", printable(link), l.dir)
	}
	return l.in(link, true, func(folder int, name string) error {
		const fresh = ".hapax-link"
		target := device
		for range strings.Count(link, "/") {
			target = "../" + target
		}
		if there, isLink := entry(folder, name); there && !isLink {
			if sameDevice(folder, name, target) {
				return nil // libdevmapper makes nodes where there is no udevd
			}
			return unix.EEXIST
		}
		have := make([]byte, len(target)+1)
		if n, err := unix.Readlinkat(folder, name, have); err == nil && string(have[:n]) == target {
			return nil
		}
		if err := unix.Unlinkat(folder, fresh, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		if err := unix.Symlinkat(target, folder, fresh); err != nil {
			return err
		}
		return unix.Renameat(folder, fresh, folder, name)
	})
}

// unlink removes the link, if it is one, and the folders that are empty then.
func (l *Links) unlink(link string) error {
	if !fs.ValidPath(link) {
		return nil
	}
	flags := 0
	for ; link != "."; link = path.Dir(link) {
		removed := false
		err := l.in(link, false, func(folder int, name string) error {
			if _, isLink := entry(folder, name); flags == 0 && !isLink {
				return nil // so it was never made
			}
			err := unix.Unlinkat(folder, name, flags)
			removed = err == nil
			return err
		})
		if !removed {
			if flags != 0 || err == nil || errors.Is(err, unix.ENOENT) {
				return nil
			}
			return err
		}
		flags = unix.AT_REMOVEDIR
	}
	return nil
}

// entry tells whether there is something of that name in a folder, and whether it is a link.
func entry(folder int, name string) (there, isLink bool) {
	var st unix.Stat_t
	err := unix.Fstatat(folder, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil, err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}

// sameDevice tells whether two names are nodes of one block device.
func sameDevice(folder int, a, b string) bool {
	var x, y unix.Stat_t
	return unix.Fstatat(folder, a, &x, unix.AT_SYMLINK_NOFOLLOW) == nil && x.Mode&unix.S_IFMT == unix.S_IFBLK &&
		unix.Fstatat(folder, b, &y, unix.AT_SYMLINK_NOFOLLOW) == nil && y.Mode&unix.S_IFMT == unix.S_IFBLK && x.Rdev == y.Rdev
}

// in is At below the directory of l.
func (l *Links) in(link string, create bool, do func(folder int, name string) error) error {
	if err := At(l.root, link, create, do); err != nil {
		return fmt.Errorf("links: %s/%s: %w", l.dir, link, err)
	}
	return nil
}

// At calls do with the open folder, below the open directory root, that a path leads to, and the last part
// of the path. Folders that are missing are made if create is set. No link is followed, so that the path, if
// it is a fs.ValidPath, does not lead out of root. (os.Root would do as well, for 40 KB of /init.)
func At(root int, path string, create bool, do func(folder int, name string) error) error {
	folder := root
	i := strings.LastIndexByte(path, '/') + 1
	at, name := path[:i], path[i:]
	for part := range strings.FieldsFuncSeq(at, func(r rune) bool { return r == '/' }) {
		const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		next, err := unix.Openat(folder, part, flags, 0)
		if errors.Is(err, unix.ENOENT) && create {
			if err = unix.Mkdirat(folder, part, 0o755); err == nil || errors.Is(err, unix.EEXIST) {
				next, err = unix.Openat(folder, part, flags, 0)
			}
		}
		if folder != root {
			unix.Close(folder)
		}
		if err != nil {
			return err
		}
		folder = next
	}
	err := do(folder, name)
	if folder != root {
		unix.Close(folder)
	}
	return err
}
