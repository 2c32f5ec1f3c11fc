package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// TestMappedRoot boots a Debian with systemd whose root is a mapped device, and whose fstab names it by a link that only its
// udev can make. That udev takes no notice of a mapped device of which its database does not say that it was activated.
func TestMappedRoot(t *testing.T) {
	need.Time(t)
	l, k := needFirst(t)
	disk, sectors := shiftedRoot(t, l)
	dir := t.TempDir()
	table, conf := filepath.Join(dir, "table"), filepath.Join(dir, "map.conf")
	// Nothing here assembles devices yet: an install command does, as soon as the disk is there.
	const command = "/sbin/modprobe --ignore-install dm_mod; until /sbin/dmsetup create hapax-root --uuid TEST-root /etc/table; do sleep 1; done"
	for file, text := range map[string]string{
		table: fmt.Sprintln(0, sectors, "linear /dev/vda 2048"), conf: "install dm_mod " + command + "\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	base, err := l.HapaxImage(t.Context(), k, "--mode", "universal", "--modules", "dm_mod", "--shell", "u-root",
		"--include", table+":etc/table", "--include", conf+":etc/modprobe.d/map.conf")
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	if err := l.WithDmsetup(t.Context(), image, base, []byte(groups)); err != nil {
		t.Fatal(err)
	}
	v := vm.Run(t, l.Logs(), vm.Config{Limit: 6 * time.Minute, Machine: qemu.Machine{
		Kernel: k.Vmlinuz, Initrd: image, Disks: []string{disk},
		Append: bootArgs + "root=/dev/mapper/hapax-root rd.modules_load=dm_mod",
	}})
	f := loginTo(t, v)
	f.same(t, "device", "/dev/dm-0")
	f.matches(t, "dmesg", "hapax: .*root /dev/dm-0 .*mounted")
	for _, link := range []string{"by-id/dm-name-hapax-root", "by-id/dm-uuid-TEST-root"} {
		f.holds(t, "link", link) // by the udev that runs there
	}
	for unit, want := range map[string]string{
		`dev-mapper-hapax\\x2droot.device`: "active",
		"systemd-fsck-root.service":        "active",
	} {
		line := shellLine(t, v, "echo unit $(systemctl is-active "+unit+").", `unit (\w+)\.`)
		if line[1] != want {
			t.Errorf("%s is %s, want %s", unit, line[1], want)
		}
	}
	if len(f["failed"]) > 0 {
		t.Errorf("failed units: %q", f["failed"])
	}
	t.Logf("%s on %s: %s", f["root"], f["device"], strings.Join(f["analyze"], "; "))
}

// shiftedRoot makes a disk on which a Debian begins at sector 2048, where a map finds it and nobody else. It returns the
// number of the Debian's sectors, too.
func shiftedRoot(t *testing.T, l *lab.Lab) (disk string, sectors int64) {
	t.Helper()
	root, err := l.DebianRoot(t.Context(), "systemd-sysv", lab.DebianFileSystems()[0])
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(root)
	if err != nil {
		t.Fatal(err)
	}
	disk = filepath.Join(t.TempDir(), "disk")
	tool(t, "dd", "if="+root, "of="+disk, "bs=1M", "seek=1", "conv=sparse", "status=none")
	return disk, info.Size() / 512
}
