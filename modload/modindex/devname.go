package modindex

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
)

// A Devnode is a device file whose first open loads a module, a line of
// modules.devname: /dev/fuse exists before fuse does. The kernel then asks for
// "char-major-10-229", which Lookup knows.
type Devnode struct {
	Module string // normalised
	Name   string // below /dev, may hold slashes: "net/tun"
	Char   bool   // else a block device
	Major  uint32
	Minor  uint32
}

// Devnodes reads modules.devname. A line that is wrong, as one whose name would
// leave /dev, costs that line: the error is about the first such line, and the
// nodes are those of all others. No such file gives no nodes.
func (x *Index) Devnodes() ([]Devnode, error) {
	data, err := x.readText("modules.devname")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var nodes []Devnode
	var wrong error
	for line := range lines(data) {
		n, err := parseDevnode(line)
		if err == nil {
			nodes = append(nodes, n)
		} else if wrong == nil {
			wrong = fmt.Errorf("%s/modules.devname: %.80q: %w; run depmod", x.dir, line, err)
		}
	}
	return nodes, wrong
}

// parseDevnode reads "MODULE NAME c10:229".
func parseDevnode(line string) (n Devnode, err error) {
	words := strings.Fields(line)
	if len(words) != 3 || len(words[2]) == 0 {
		return n, errors.New("want module, name and number")
	}
	n.Module, n.Name = Normalize(words[0]), words[1]
	if !filepath.IsLocal(n.Name) || filepath.Clean(n.Name) != n.Name || n.Name == "." {
		return n, fmt.Errorf("%q is no plain name below /dev", n.Name)
	}
	kind, number := words[2][0], words[2][1:]
	if kind != 'c' && kind != 'b' {
		return n, fmt.Errorf("type %c is neither c nor b", kind)
	}
	n.Char = kind == 'c'
	major, minor, _ := strings.Cut(number, ":")
	if n.Major, err = parseUint32(major); err != nil {
		return n, err
	}
	n.Minor, err = parseUint32(minor)
	return n, err
}

func parseUint32(s string) (uint32, error) {
	v, err := strconv.ParseUint(s, 10, 32)
	return uint32(v), err
}
