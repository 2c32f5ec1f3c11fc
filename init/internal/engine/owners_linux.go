package engine

import (
	"errors"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hapax/init/internal/rootdev"
	"hapax/modload/modindex"
)

// groupFile names the groups of the image. One without it has no use for them.
const groupFile = "/etc/group"

// nodeRules returns what systemd-udevd 252 gives to device files by its
// 50-udev-default.rules: subsystem, kernel name, group and permissions, '-'
// where a rule has none. Of all that fit, the last group and the last
// permissions count. A subsystem of SCSI ends in the type of the device.
//
// Left out is what takes more than a look at these: printers behind usb, and
// FireWire.
func nodeRules() string {
	return `tty ptmx tty 0666
tty tty tty 0666
tty tty[0-9]* tty 0620
tty sclp_line[0-9]* tty 0620
tty ttysclp[0-9]* tty 0620
tty 3270/tty[0-9]* tty 0620
vc vcs* tty -
* tty[A-Z]*[0-9] dialout -
* ttymxc[0-9]* dialout -
* pppox[0-9]* dialout -
* ircomm[0-9]* dialout -
* noz[0-9]* dialout -
* rfcomm[0-9]* dialout -
mem mem kmem 0640
mem kmem kmem 0640
mem port kmem 0640
input * input -
input js[0-9]* - 0664
video4linux * video -
graphics * video -
drm [!r]* video -
dvb * video -
media * video -
cec * video -
drm renderD* render 0660
kfd * render 0660
misc sgx_enclave sgx 0660
misc sgx_vepc sgx 0660
sound * audio -
usb * - 0664
* parport[0-9]* lp -
* lp[0-9]* lp -
* irlpt[0-9]* lp -
ppdev * lp -
block * disk -
block sr[0-9]* cdrom -
scsi_generic:[45] * cdrom -
* sch[0-9]* cdrom -
* pktcdvd* cdrom -
scsi_*:[18] * tape -
scsi_generic:0 * disk -
* loop-control disk -
* btrfs-control disk -
* rawctl disk -
raw raw[0-9]* disk -
aoe * disk 0220
aoe err - 0440
* rfkill - 0664
* tun - 0666
* fuse - 0666
* kvm kvm 0660
* vfio - 0666
* vsock - 0666
* vhost-vsock kvm 0660
* vhost-net kvm 0660
* udmabuf kvm -
`
}

// owners gives device files the groups and permissions that udev would. A nil
// owners leaves all to root.
type owners struct {
	dev    rootdev.SysFS // /dev
	folder int           // an open file of it
	sys    rootdev.SysFS
	groups map[string]int
}

// openOwners reads the group file, and returns nil without one.
func openOwners(dev, file string, sys rootdev.SysFS) (*owners, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	folder, err := unix.Open(dev, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dev, Err: err}
	}
	return &owners{rootdev.SysDir(dev), folder, sys, parseGroups(string(b))}, nil
}

// parseGroups reads lines "name:password:number:members". One that is none is
// passed over, and a name has its first number.
func parseGroups(file string) map[string]int {
	groups := map[string]int{}
	for line := range strings.Lines(file) {
		f := strings.Split(line, ":")
		if len(f) < 4 {
			continue
		}
		number, err := strconv.ParseUint(f[2], 10, 31)
		if _, known := groups[f[0]]; err == nil && !known {
			groups[f[0]] = int(number)
		}
	}
	return groups
}

// all returns the names of the device files that are there now.
func (o *owners) all() []string {
	var names []string
	folders := []string{""}
	for len(folders) > 0 && o != nil {
		folder := folders[0]
		folders = folders[1:]
		entries, _ := o.dev.ReadDir(folder) // one that is gone has none
		for _, e := range entries {
			name := path.Join(folder, e.Name())
			switch {
			case e.Type()&os.ModeDevice != 0:
				names = append(names, name)
			case e.IsDir() && name != "pts" && name != "shm": // file systems of their own
				folders = append(folders, name)
			}
		}
	}
	return names
}

// set gives one device file what the rules say. A file that is gone is none.
func (o *owners) set(name string) error {
	if o == nil {
		return nil
	}
	err := rootdev.At(o.folder, name, false, func(folder int, base string) error {
		var st unix.Stat_t
		if err := unix.Fstatat(folder, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		kind := "char"
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFBLK:
			kind = "block"
		case unix.S_IFCHR:
		default:
			return nil
		}
		subsystem, kernel := o.device(kind, st.Rdev, name)
		gid, mode := o.rule(subsystem, kernel)
		if gid >= 0 {
			if err := unix.Fchownat(folder, base, -1, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
		}
		if mode == 0 {
			return nil
		}
		return unix.Fchmodat(folder, base, mode, 0)
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "chown", Path: "/dev/" + name, Err: err}
	}
	return nil
}

// device returns what the kernel calls the device of a node. One that no driver
// serves yet is known by its own name alone.
func (o *owners) device(kind string, number uint64, name string) (subsystem, kernel string) {
	at := "dev/" + kind + "/" + strconv.Itoa(int(unix.Major(number))) + ":" + strconv.Itoa(int(unix.Minor(number)))
	link, err := o.sys.ReadLink(at)
	if err != nil {
		if strings.HasPrefix(name, "snd/") {
			subsystem = "sound"
		}
		return subsystem, path.Base(name)
	}
	if s, err := o.sys.ReadLink(at + "/subsystem"); err == nil {
		subsystem = path.Base(s)
	}
	if strings.HasPrefix(subsystem, "scsi_") {
		t, _ := o.sys.ReadFile(at + "/device/type")
		subsystem += ":" + strings.TrimSpace(string(t))
	}
	return subsystem, strings.ReplaceAll(path.Base(link), "!", "/")
}

// rule returns the group, -1 for none, and the permissions, 0 for those that
// the kernel gave. A group alone may read and write.
func (o *owners) rule(subsystem, kernel string) (gid int, mode uint32) {
	gid = -1
	for line := range strings.Lines(nodeRules()) {
		f := strings.Fields(line)
		if !modindex.Fnmatch(f[0], subsystem) || !modindex.Fnmatch(f[1], kernel) {
			continue
		}
		if n, ok := o.groups[f[2]]; ok {
			gid = n
		}
		if m, err := strconv.ParseUint(f[3], 8, 12); err == nil {
			mode = uint32(m)
		}
	}
	if gid > 0 && mode == 0 {
		mode = 0o660
	}
	return gid, mode
}
