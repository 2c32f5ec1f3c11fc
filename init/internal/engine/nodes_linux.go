package engine

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

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
}

// makeNodes makes the device files whose first open loads a module, as
// systemd-tmpfiles does from what kmod static-nodes prints. A node that is there
// is left alone: its driver is live, or another engine was here before.
func makeNodes(dev string, nodes []modindex.Devnode) error {
	root, err := os.OpenRoot(dev)
	if err != nil {
		return err
	}
	defer root.Close()
	var problems []error
	for _, n := range nodes {
		if err := makeNode(root, n); err != nil && !errors.Is(err, os.ErrExist) {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// makeNode makes one node, in a folder that does not lead out of root.
func makeNode(root *os.Root, n modindex.Devnode) error {
	if dir := filepath.Dir(n.Name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	folder, err := root.Open(filepath.Dir(n.Name))
	if err != nil {
		return err
	}
	defer folder.Close()
	mode := uint32(unix.S_IFBLK)
	if n.Char {
		mode = unix.S_IFCHR
	}
	err = unix.Mknodat(int(folder.Fd()), filepath.Base(n.Name), mode|0o600, int(unix.Mkdev(n.Major, n.Minor)))
	if err != nil {
		return &os.PathError{Op: "mknod", Path: "/dev/" + n.Name, Err: err}
	}
	return nil
}
