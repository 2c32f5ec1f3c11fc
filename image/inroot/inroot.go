// Package inroot finds files below a folder that stands for "/", as a program would that runs there.
package inroot

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
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

// Host returns the path of the host for one that Resolve has returned.
func Host(root, name string) string { return filepath.Join(root, filepath.FromSlash(name)) }
