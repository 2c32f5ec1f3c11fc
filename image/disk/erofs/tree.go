package erofs

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"hapax/image/inroot"
)

// A node is one inode.
type node struct {
	mode     fs.FileMode
	size     int64
	links    uint32
	link     string            // of a symbolic link
	content  *io.SectionReader // of a regular file
	device   uint32            // of a device node, as the kernel stores it
	children []child           // of a folder, "." and ".." included, by name
	parent   *node

	inode      int64 // offset
	firstBlock int64
}

type child struct {
	name string
	node *node
}

// maxTail is the longest rest of a file that is stored behind its inode. A longer one has a block of its own.
const maxTail = block - inodeSize

// tail returns how much of the data lies behind the inode.
func (n *node) tail() int64 {
	if rest := n.size % block; n.hasData() && rest <= maxTail {
		return rest
	}
	return 0
}

// plain returns how many bytes, in whole blocks, the rest takes.
func (n *node) plain() int64 {
	if !n.hasData() {
		return 0
	}
	return ceil(n.size-n.tail()) * block
}

// secret reports whether not everybody may read a file: by its own mode or by that of a folder above it.
func (n *node) secret() bool {
	if n.mode&0o004 == 0 {
		return true
	}
	for dir := n.parent; ; dir = dir.parent {
		if dir.mode&0o001 == 0 {
			return true
		}
		if dir == dir.parent {
			return false
		}
	}
}

func (n *node) hasData() bool {
	return n.mode.IsRegular() || n.mode.IsDir() || n.mode.Type() == fs.ModeSymlink
}

// A tree is the content of a folder.
type tree struct {
	nodes  []*node // the root first, each once
	linked map[identity]*node
}

// An identity tells hard links.
type identity struct{ device, inode uint64 }

// scan reads a folder with all that is below it, but for the content of the files.
func scan(dir string) (*tree, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a folder", dir)
	}
	t := &tree{linked: make(map[identity]*node)}
	root := &node{mode: inroot.Mode(info)}
	root.parent = root
	return t, t.folder(root, dir)
}

// folder adds a folder and what is below it.
func (t *tree) folder(n *node, dir string) error {
	t.nodes = append(t.nodes, n)
	n.links = 2
	n.children = []child{{".", n}, {"..", n.parent}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%w", err)
	}
	for _, entry := range entries {
		file := filepath.Join(dir, entry.Name())
		c, err := t.entry(n, file)
		if err != nil {
			return err
		}
		if c.mode.IsDir() {
			n.links++
		}
		n.children = append(n.children, child{entry.Name(), c})
	}
	// A reader searches by the bytes of the names, and "-" comes before ".".
	slices.SortFunc(n.children, func(a, b child) int { return cmp.Compare(a.name, b.name) })
	n.size = n.directorySize()
	return nil
}

// entry adds what is in a folder.
func (t *tree) entry(parent *node, file string) (*node, error) {
	info, err := os.Lstat(file)
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	n := &node{mode: inroot.Mode(info), links: 1, parent: parent}
	stat, _ := info.Sys().(*syscall.Stat_t)
	if stat != nil && stat.Nlink > 1 && !info.IsDir() {
		id := identity{uint64(stat.Dev), stat.Ino}
		if first := t.linked[id]; first != nil {
			first.links++
			return first, nil
		}
		t.linked[id] = n
	}
	switch {
	case info.IsDir():
		return n, t.folder(n, file)
	case info.Mode().IsRegular():
		n.size = info.Size()
		n.content = io.NewSectionReader(fileContent(file), 0, n.size)
	case info.Mode().Type() == fs.ModeSymlink:
		if n.link, err = os.Readlink(file); err != nil {
			return nil, fmt.Errorf("%w", err)
		}
		n.size = int64(len(n.link))
	case info.Mode()&fs.ModeDevice != 0 && stat != nil:
		n.device = encodeDevice(unix.Major(uint64(stat.Rdev)), unix.Minor(uint64(stat.Rdev)))
	case info.Mode().Type() != fs.ModeNamedPipe:
		return nil, fmt.Errorf("%s is neither a file nor a folder, link, device or pipe: take it away", file)
	}
	t.nodes = append(t.nodes, n)
	return n, nil
}

// encodeDevice returns a device number in the kernel's 32 bits (new_encode_dev).
func encodeDevice(major, minor uint32) uint32 { return minor&0xff | major<<8 | minor&^0xff<<12 }

// fileContent is the name of a file that is open only while it is read, for there may be many.
type fileContent string

func (f fileContent) ReadAt(p []byte, at int64) (n int, err error) {
	file, err := os.Open(string(f))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	n, err = file.ReadAt(p, at)
	if n == len(p) {
		err = nil
	}
	return n, err
}

func bytesReader(data []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))
}

const direntSize = 12

// split calls each with the children of each block of a folder, and the bytes that these take.
func (n *node) split(each func(children []child, used int64)) {
	begin, used := 0, int64(0)
	for i, c := range n.children {
		need := int64(direntSize + len(c.name))
		if used+need > block {
			each(n.children[begin:i], used)
			begin, used = i, 0
		}
		used += need
	}
	each(n.children[begin:], used)
}

// directorySize returns the size of a folder: whole blocks and what is used of the last one.
func (n *node) directorySize() int64 {
	size, last := int64(0), int64(0)
	n.split(func(_ []child, used int64) { size, last = size+block, used })
	return size - block + last
}

// directory returns a folder's data. Each block begins with its entries, then come their names.
func (n *node) directory() []byte {
	data := make([]byte, 0, n.size)
	n.split(func(children []child, used int64) {
		data = append(data, make([]byte, ceil(int64(len(data)))*block-int64(len(data)))...)
		name := direntSize * len(children)
		for _, c := range children {
			data = binary.LittleEndian.AppendUint64(data, number(c.node.inode))
			data = binary.LittleEndian.AppendUint16(data, uint16(name))
			data = append(data, fileType(c.node.mode), 0)
			name += len(c.name)
		}
		for _, c := range children {
			data = append(data, c.name...)
		}
	})
	return data
}

// fileType returns the kind of a file as directory entries name it.
func fileType(mode fs.FileMode) byte {
	switch mode.Type() {
	case fs.ModeDir:
		return 2
	case fs.ModeDevice | fs.ModeCharDevice:
		return 3
	case fs.ModeDevice:
		return 4
	case fs.ModeNamedPipe:
		return 5
	case fs.ModeSymlink:
		return 7
	}
	return 1
}

// unixMode returns the type and the permissions as stat(2) gives them.
func unixMode(mode fs.FileMode) uint16 {
	m := uint16(mode.Perm())
	if mode&fs.ModeSetuid != 0 {
		m |= unix.S_ISUID
	}
	if mode&fs.ModeSetgid != 0 {
		m |= unix.S_ISGID
	}
	if mode&fs.ModeSticky != 0 {
		m |= unix.S_ISVTX
	}
	switch fileType(mode) {
	case 1:
		m |= unix.S_IFREG
	case 2:
		m |= unix.S_IFDIR
	case 3:
		m |= unix.S_IFCHR
	case 4:
		m |= unix.S_IFBLK
	case 5:
		m |= unix.S_IFIFO
	case 7:
		m |= unix.S_IFLNK
	}
	return m
}
