// Package inroot finds files below a folder that stands for "/", as a program would that runs there, and tells what becomes of their
// modes in an image in which all files are root's.
package inroot

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks is how many links the kernel follows in one path.
const maxLinks = 40

// Resolve follows all links in name below root, absolute ones too, and never out of it. It returns the path below root, clean and
// absolute. The error is fs.ErrNotExist if there is no such file.
func Resolve(root, name string) (string, error) {
	done, left := "/", name
	for links := 0; left != ""; {
		element, rest, _ := strings.Cut(left, "/")
		left = rest
		switch element {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, element)
		info, err := os.Lstat(Host(root, next))
		if err != nil {
			return "", fmt.Errorf("%w", err)
		}
		if info.Mode().Type() != fs.ModeSymlink {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: too many links", Host(root, name))
		}
		target, err := os.Readlink(Host(root, next))
		if err != nil {
			return "", fmt.Errorf("%w", err)
		}
		if path.IsAbs(target) {
			done = "/"
		}
		left = target + "/" + left
	}
	return done, nil
}

// ReadFile reads a file below root.
func ReadFile(root, name string) ([]byte, error) {
	file, err := Resolve(root, name)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(Host(root, file))
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	return b, nil
}

// Mode returns the mode that a file has when it becomes root's: without the bit that lets others act as its owner or group, unless
// that was root. chown(2) takes it away in the same way.
func Mode(info fs.FileInfo) fs.FileMode {
	mode := info.Mode()
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid != 0 {
		mode &^= fs.ModeSetuid
	}
	if !ok || st.Gid != 0 {
		mode &^= fs.ModeSetgid
	}
	return mode
}

// Host returns the path of the host for one that Resolve has returned.
func Host(root, name string) string { return filepath.Join(root, filepath.FromSlash(name)) }
