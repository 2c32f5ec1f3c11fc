package profile

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
)

// A mount is a line of /proc/self/mountinfo, see proc(5).
type mount struct {
	devno  string // "8:1"; major 0 for file systems that have no block device of their own, btrfs among them
	point  string
	fstype string
	source string
}

// mounts notes what the root file system and /usr need: the driver of the file system, and those of the devices it is on.
func (m *machine) mounts() {
	f, err := os.Open(m.path("proc/self/mountinfo"))
	if err != nil {
		return
	}
	defer f.Close()
	last := map[string]mount{} // a later mount on the same point hides the earlier one
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if mnt, ok := parseMount(lines.Text()); ok && (mnt.point == "/" || mnt.point == "/usr") {
			last[mnt.point] = mnt
		}
	}
	for point, purpose := range map[string]string{"/": "the root", "/usr": "/usr"} {
		mnt, ok := last[point]
		if !ok {
			continue
		}
		m.need("fs-"+strings.TrimPrefix(mnt.fstype, "fuse."), purpose+" file system")
		for _, dir := range m.devices(mnt) {
			m.block(dir, purpose+" device")
		}
	}
}

// parseMount reads one line: ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [FIELD...] - TYPE SOURCE OPTIONS.
func parseMount(line string) (mount, bool) {
	head, tail, ok := strings.Cut(line, " - ")
	h, t := strings.Fields(head), strings.Fields(tail)
	if !ok || len(h) < 6 || len(t) < 2 {
		return mount{}, false
	}
	return mount{devno: h[2], point: unescape(h[4]), fstype: t[0], source: unescape(t[1])}, true
}

// unescape undoes \040, \011, \012 and \134.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// devices returns the folders in /sys of the block devices that a file system lies on.
func (m *machine) devices(mnt mount) []string {
	if dir, ok := m.real("sys/dev/block/" + mnt.devno); ok && !strings.HasPrefix(mnt.devno, "0:") {
		return []string{dir}
	}
	name, ok := strings.CutPrefix(mnt.source, "/dev/")
	if !ok {
		return nil
	}
	first, ok := m.named(name)
	if !ok {
		return nil
	}
	// btrfs tells all its devices below /sys/fs/btrfs/UUID.
	member := filepath.Join(m.path("sys/fs/btrfs"), "*/devices", filepath.Base(first))
	all := []string{first}
	if found, _ := filepath.Glob(member); len(found) == 1 {
		links, _ := filepath.Glob(filepath.Join(filepath.Dir(found[0]), "*"))
		for _, link := range links {
			if dir, err := filepath.EvalSymlinks(link); err == nil {
				all = append(all, dir)
			}
		}
	}
	return all
}

// named returns the folder of a block device by its name below /dev, be it one of device mapper's.
func (m *machine) named(name string) (string, bool) {
	if mapped, ok := strings.CutPrefix(name, "mapper/"); ok {
		names, _ := filepath.Glob(m.path("sys/class/block/dm-*/dm/name"))
		for _, file := range names {
			if readLine(file) == mapped {
				dir, err := filepath.EvalSymlinks(filepath.Dir(filepath.Dir(file)))
				return dir, err == nil
			}
		}
		return "", false
	}
	// sysfs writes a slash as an exclamation mark.
	return m.real("sys/class/block/" + strings.ReplaceAll(name, "/", "!"))
}

// block notes what a block device needs: its drivers, and those of the devices below a virtual one.
func (m *machine) block(dir, purpose string) {
	if m.seen["block\x00"+dir] {
		return
	}
	m.seen["block\x00"+dir] = true
	m.chain(dir, purpose)
	for _, name := range layers(dir) {
		m.need(name, purpose)
	}
	slaves, _ := filepath.Glob(filepath.Join(dir, "slaves/*"))
	for _, link := range slaves {
		if slave, err := filepath.EvalSymlinks(link); err == nil {
			m.block(slave, purpose)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		m.block(filepath.Dir(dir), purpose) // the disk
	}
}

// layers returns the modules of a virtual block device, which has no driver in the sense of sysfs.
func layers(dir string) []string {
	uuid := readLine(filepath.Join(dir, "dm/uuid"))
	level := readLine(filepath.Join(dir, "md/level"))
	base := filepath.Base(dir)
	switch {
	case strings.HasPrefix(uuid, "CRYPT-"):
		return []string{"dm_mod", "dm_crypt"}
	case strings.HasPrefix(uuid, "LVM-"):
		// sysfs does not tell which target a volume uses.
		return []string{"dm_mod", "dm_mirror", "dm_snapshot", "dm_thin_pool", "dm_raid", "dm_cache", "dm_cache_smq", "dm_writecache"}
	case strings.HasPrefix(uuid, "mpath-"):
		return []string{"dm_mod", "dm_multipath", "dm_round_robin", "dm_queue_length", "dm_service_time"}
	case strings.HasPrefix(base, "dm-"):
		return []string{"dm_mod", "dm_verity", "dm_integrity"}
	case level != "":
		return []string{"md_mod", "md-" + level}
	case strings.HasPrefix(base, "bcache"):
		return []string{"bcache"}
	case strings.HasPrefix(base, "loop"):
		return []string{"loop"}
	}
	return nil
}
