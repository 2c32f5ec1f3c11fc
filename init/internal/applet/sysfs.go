package applet

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A presence is the state of a module in the kernel.
type presence int

const (
	absent presence = iota
	present
	coming // or going, or built in without the index saying so
)

// presence looks a module up in sysfs, by its normalised name.
func (e *env) presence(name string) presence {
	b, err := os.ReadFile(e.path("sys/module", name, "initstate"))
	switch {
	case err == nil && string(b) == "live\n":
		return present
	case err == nil:
		return coming
	}
	if st, err := os.Stat(e.path("sys/module", name)); err == nil && st.IsDir() {
		return coming
	}
	return absent
}

// number reads a number about a module, such as its refcnt. What cannot be read
// is -ENOENT, as libkmod has it.
func (e *env) number(name, file string) int {
	b, err := os.ReadFile(e.path("sys/module", name, file))
	if err != nil {
		return -int(unix.ENOENT)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return -int(unix.EINVAL)
	}
	return n
}

// holders returns the modules that need name, in the order of the folder.
func (e *env) holders(name string) ([]string, error) {
	d, err := os.Open(e.path("sys/module", name, "holders"))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}
