package engine

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"hapax/init/internal/rootdev"
	"hapax/modload/modindex"
)

// makeNodes makes those of the image's index.
func (e *engine) makeNodes() {
	if e.modules.dir == "" {
		return
	}
	e.modules.mu.Lock()
	index := e.modules.opened
	e.modules.mu.Unlock()
	nodes, err := index.Devnodes()
	if err != nil {
		e.log.Warnf("%v", err)
	}
	if err := makeNodes("/dev", nodes); err != nil {
		e.log.Warnf("%v", err)
	}
	for _, n := range nodes {
		e.blocks.links.own(n.Name)
	}
}

// makeNodes makes the device files whose first open loads a module, as
// systemd-tmpfiles does from what kmod static-nodes prints. A node that is there
// is left alone: its driver is live, or another engine was here before.
func makeNodes(dev string, nodes []modindex.Devnode) error {
	root, err := unix.Open(dev, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dev, Err: err}
	}
	defer unix.Close(root)
	var problems []error
	for _, n := range nodes {
		if err := makeNode(root, n); err != nil && !errors.Is(err, os.ErrExist) {
			problems = append(problems, &os.PathError{Op: "mknod", Path: "/dev/" + n.Name, Err: err})
		}
	}
	return errors.Join(problems...)
}

// makeNode makes one node, in a folder that does not lead out of root.
func makeNode(root int, n modindex.Devnode) error {
	if !fs.ValidPath(n.Name) {
		return os.ErrInvalid
	}
	mode := uint32(unix.S_IFBLK)
	if n.Char {
		mode = unix.S_IFCHR
	}
	return rootdev.At(root, n.Name, true, func(folder int, name string) error {
		return unix.Mknodat(folder, name, mode|0o600, int(unix.Mkdev(n.Major, n.Minor)))
	})
}
