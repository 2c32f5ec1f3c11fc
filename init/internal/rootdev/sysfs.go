package rootdev

import (
	"io/fs"
	"os"
	"path"
	"strings"
)

// A SysFS is the file system at /sys: what SysDir returns, or what a test makes up. Names are as in fs.FS;
// ReadDir has no order.
type SysFS interface {
	ReadFile(name string) ([]byte, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	ReadLink(name string) (string, error)
}

// SysDir returns the SysFS in a directory of the system. (os.DirFS would do as well, for 5 KB of /init.)
func SysDir(dir string) SysFS { return sysDir(dir) }

type sysDir string

func (d sysDir) ReadFile(name string) ([]byte, error) { return os.ReadFile(string(d) + "/" + name) }
func (d sysDir) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := os.Open(string(d) + "/" + name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1) // os.ReadDir sorts, which costs 12 KB of /init
}
func (d sysDir) Stat(name string) (fs.FileInfo, error) { return os.Stat(string(d) + "/" + name) }
func (d sysDir) ReadLink(name string) (string, error)  { return os.Readlink(string(d) + "/" + name) }

// A node is a device in sysfs: a folder with a uevent file. The zero node is none.
type node struct {
	sys  SysFS
	path string // below /sys: "devices/pci0000:00/0000:00:04.0/virtio1"
}

func (n node) name() string { return path.Base(n.path) }

// page returns the contents of a file of the device, nil if there is none.
func (n node) page(name string) []byte {
	if n.path == "" {
		return nil
	}
	b, err := n.sys.ReadFile(n.path + "/" + name)
	if err != nil {
		return nil
	}
	return b
}

// attr returns the text in a file of the device without its last newlines, "" if there is none.
func (n node) attr(name string) string { return strings.TrimRight(cut(n.page(name)), "\r\n") }

// text is an attribute as udev matches and takes it: without white space at its end, and without characters
// that its rules could trip over.
func (n node) text(name string) string { return replaceChars(trim(n.attr(name)), "/ $%?,") }

// subsystem returns the name of the device's subsystem, "" without one.
func (n node) subsystem() string {
	if n.path == "" {
		return ""
	}
	link, err := n.sys.ReadLink(n.path + "/subsystem")
	if err != nil {
		return ""
	}
	return path.Base(link)
}

// devtype returns the type that the device has in its uevent file, "" without one.
func (n node) devtype() string {
	for line := range strings.Lines(n.attr("uevent")) {
		if kind, ok := strings.CutPrefix(line, "DEVTYPE="); ok {
			return strings.TrimSpace(kind)
		}
	}
	return ""
}

// parent returns the next device up, the zero node above the last one.
func (n node) parent() node {
	for p := path.Dir(n.path); strings.HasPrefix(p, "devices/"); p = path.Dir(p) {
		if _, err := n.sys.Stat(p + "/uevent"); err == nil {
			return node{n.sys, p}
		}
	}
	return node{}
}

// up returns the first device for which fits is true: n, or the next ones above it.
func (n node) up(fits func(node) bool) node {
	for n.path != "" && !fits(n) {
		n = n.parent()
	}
	return n
}

// above returns the first device above n of a subsystem and type.
func (n node) above(subsystem, devtype string) node {
	return n.parent().up(func(p node) bool { return p.subsystem() == subsystem && p.devtype() == devtype })
}

// under reports whether n or a device above it is of the subsystem.
func (n node) under(subsystem string) bool {
	return n.up(func(p node) bool { return p.subsystem() == subsystem }).path != ""
}

// upText returns the text of the attribute of n, or of the next device above that has it.
func (n node) upText(name string) string {
	return n.up(func(p node) bool { return p.text(name) != "" }).text(name)
}

// top returns the last device, from n upwards, of those in a row that are of the subsystem.
func (n node) top(subsystem string) node {
	for p := n.parent(); p.path != "" && n.subsystem() == subsystem && p.subsystem() == subsystem; p = n.parent() {
		n = p
	}
	return n
}

// classDevice returns the device of that name in a class, or the zero node.
func (n node) classDevice(class, name string) node {
	if n.path == "" {
		return node{}
	}
	c := node{n.sys, "class/" + class + "/" + name}
	if _, err := n.sys.Stat(c.path + "/uevent"); err != nil {
		return node{}
	}
	return c
}
