package engine

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/init/internal/rootdev"
	"hapax/tests/need"
)

const testGroups = `root:x:0:
tty:x:5:
disk:x:6:somebody,else
disk:x:7:
no number:x:-1:
a line
audio:x:29:
input:x:104:
kvm:x:106:
tape:x:26:
dialout:x:20:
`

// A node is a device file, with what the kernel has in sysfs of it.
type node struct {
	name      string
	kind      uint32
	subsystem string // "" if no driver serves it
	kernel    string
	want      string // group and permissions
}

func testNodes() []node {
	const c, b = unix.S_IFCHR, unix.S_IFBLK
	return []node{
		{"vda", b, "block", "vda", "6 660"},
		{"sr0", b, "block", "sr0", "6 660"}, // there is no group cdrom
		{"cciss/c0d0", b, "block", "cciss!c0d0", "6 660"},
		{"tty1", c, "tty", "tty1", "5 620"},
		{"ttyS0", c, "tty", "ttyS0", "20 660"},
		{"console", c, "tty", "console", "0 600"},
		{"input/event0", c, "input", "event0", "104 660"},
		{"input/js0", c, "input", "js0", "104 664"},
		{"dri/card0", c, "drm", "card0", "0 600"},
		{"dri/renderD128", c, "drm", "renderD128", "0 660"},
		{"kvm", c, "misc", "kvm", "106 660"},
		{"fuse", c, "", "", "0 666"},
		{"net/tun", c, "", "", "0 666"},
		{"snd/seq", c, "", "", "29 660"},
		{"sg0", c, "scsi_generic", "sg0", "26 660"}, // a tape drive by its type
		{"bus/usb/001/001", c, "usb", "usb1", "0 664"},
		{"kmsg", c, "mem", "kmsg", "0 600"},
	}
}

// A machine of those nodes: /dev, and what sysfs has of them.
func nodeMachine(t *testing.T) (dev string, sys fstest.MapFS) {
	t.Helper()
	dev, sys = t.TempDir(), fstest.MapFS{}
	for i, n := range testNodes() {
		file := filepath.Join(dev, n.name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknod(file, n.kind|0o600, int(unix.Mkdev(240, uint32(i)))); err != nil {
			t.Fatal(err)
		}
		if n.subsystem == "" {
			continue
		}
		kind := map[uint32]string{unix.S_IFCHR: "char", unix.S_IFBLK: "block"}[n.kind]
		link := func(name, target string) { sys[name] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink} }
		link(fmt.Sprintf("dev/%s/240:%d", kind, i), "../../devices/x/"+n.kernel)
		link("devices/x/"+n.kernel+"/subsystem", "../../../class/"+n.subsystem)
		sys["devices/x/"+n.kernel+"/device/type"] = &fstest.MapFile{Data: []byte("1\n")}
	}
	return dev, sys
}

func TestOwners(t *testing.T) {
	need.Root(t)
	t.Parallel()
	dev, sys := nodeMachine(t)
	outside := filepath.Join(t.TempDir(), "outside")
	groups := filepath.Join(dev, "group")
	for file, text := range map[string]string{groups: testGroups, outside: ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"fd": filepath.Dir(outside), "tty9": outside} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			t.Fatal(err)
		}
	}
	o, err := openOwners(dev, groups, sys)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, n := range testNodes() {
		want = append(want, n.name)
	}
	slices.Sort(want)
	all := o.all()
	slices.Sort(all)
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("device files (-want +got):\n%s", diff)
	}
	for _, name := range append(all, "tty9", "fd/outside", "gone", "group") {
		if err := o.set(name); err != nil && name != "fd/outside" {
			t.Error(err)
		}
	}
	for _, n := range testNodes() {
		if got := ownerOf(t, filepath.Join(dev, n.name)); got != n.want {
			t.Errorf("%s is %s, want %s", n.name, got, n.want)
		}
	}
	for _, file := range []string{outside, groups} {
		if got := ownerOf(t, file); got != "0 600" {
			t.Errorf("%s, which is no device file, is %s now", file, got)
		}
	}
}

// ownerOf returns the group and the permissions of a file.
func ownerOf(t *testing.T, file string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %o", st.Gid, st.Mode&0o7777)
}

// An image without groups has nothing done to its device files.
func TestNoOwners(t *testing.T) {
	t.Parallel()
	o, err := openOwners(t.TempDir(), filepath.Join(t.TempDir(), "group"), rootdev.SysDir(t.TempDir()))
	if o != nil || err != nil {
		t.Fatalf("openOwners = %v, %v; want neither", o, err)
	}
	if all := o.all(); all != nil || o.set("null") != nil {
		t.Errorf("no owners have %q", all)
	}
	if _, err := openOwners(t.TempDir(), t.TempDir(), rootdev.SysDir(t.TempDir())); err == nil {
		t.Error("a folder is read as the group file")
	}
}

// Every rule has four words that mean something.
func TestNodeRules(t *testing.T) {
	t.Parallel()
	for line := range strings.Lines(nodeRules()) {
		var subsystem, kernel, group, mode string
		if n, err := fmt.Sscan(line, &subsystem, &kernel, &group, &mode); n != 4 || err != nil || len(strings.Fields(line)) != 4 {
			t.Errorf("%q has no four words", line)
		}
		if mode != "-" && (len(mode) != 4 || strings.Trim(mode, "0246") != "") || group == "-" && mode == "-" {
			t.Errorf("%q gives nothing", line)
		}
	}
}
