package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/need"
)

// layers are made in the guest, each on the one before: the disk, two files on it as loop devices, a mirror of those, a mapped
// device, a file system on that, and one in a file of that. All are mounted below the disk, which holds a swap file, too.
const layers = `
mode = "custom"
modules = ["virtio_pci", "virtio_blk", "ext4"]
force-load = ["loop", "raid1", "dm_mod"]
program = ["/sbin/mdadm", "/sbin/dmsetup"]

[[service]]
name = "layers"
exec = "/bin/busybox"
type = "oneshot"
after = ["settled"]
env = ["MDADM_NO_UDEV=1"]
args = ["sh", "-exc", """
mkdir -p /data
mount -t ext4 /dev/vda /data
losetup /dev/loop0 /data/left
losetup /dev/loop1 /data/right
mdadm --create /dev/md0 --run --assume-clean --metadata=1.0 --level=1 --raid-devices=2 /dev/loop0 /dev/loop1
dmsetup create top --table '0 24576 linear /dev/md0 0'
mkdir /data/top
mount -t ext4 /dev/dm-0 /data/top
losetup /dev/loop2 /data/top/inner
mkdir /data/top/in
mount -t ext4 /dev/loop2 /data/top/in
dd if=/dev/zero of=/data/swap bs=1M count=4
mkswap /data/swap
swapon /data/swap
"""]
`

// mirrored is the size of the file system on the mirror, which is that of the mapped device: the sectors behind it are md's.
const mirrored = 24576 * 512

// TestShutdownLayers powers a machine off whose file systems lie on layers of devices. All are taken apart, from the top to the
// disk, and each is clean: no journal has to be recovered, no mirror to be put right.
func TestShutdownLayers(t *testing.T) {
	need.Time(t)
	l := needQEMU(t)
	for _, spec := range lab.Kernels()[:2] { // the loop devices of 6.1 let go of their file otherwise than those of 6.12
		t.Run(spec.Name, func(t *testing.T) {
			t.Parallel()
			k := kernel(t, l, spec)
			m := machine{disk: rootDisk(t, l, func(root string) error { return halves(t, root) }).File}
			m.start(t, l, k, standaloneImage(t, l, k, layers, "mdadm", "dmsetup"))
			m.done(t, "layers")
			for _, text := range []string{"/data/top/last end", "/data/top/in/last end", "/proc/sys/kernel/printk 8"} {
				ask[any](t, m.Client, guest.Write, text)
			}
			m.powerOff(t)
			for _, line := range m.v.Lines() {
				if complaint.MatchString(line.Text) {
					t.Errorf("on the way down: %s", line.Text)
				}
			}
			m.halvesAreClean(t)
		})
	}
}

// complaint is what package shutdown says about what it cannot unmount or detach.
var complaint = regexp.MustCompile(`hapax: (unmount|swapoff|detach|make read-only|sync|.* could not be unmounted)`)

// halves makes the two files of a mirror, with the same file system, in which there is a file with another.
func halves(t *testing.T, root string) error {
	t.Helper()
	left, inside := filepath.Join(root, "left"), t.TempDir()
	if err := os.WriteFile(left, nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(left, mirrored+1<<20); err != nil {
		return err
	}
	tool(t, "mkfs.ext4", "-q", "-F", filepath.Join(inside, "inner"), "4M")
	tool(t, "mkfs.ext4", "-q", "-F", "-d", inside, left, "12M")
	tool(t, "cp", "--sparse=always", left, filepath.Join(root, "right"))
	return nil
}

// halvesAreClean checks the file systems on each half of the mirror, that both are the same, and what md says of them.
func (m machine) halvesAreClean(t *testing.T) {
	t.Helper()
	mdadm, err := debian.Tool("mdadm")
	if err != nil {
		t.Fatal(err)
	}
	var content [2]string
	for i, name := range []string{"left", "right"} {
		content[i] = m.onDisk(t, name)
		half := machine{disk: saved(t, name, content[i])}
		inner := machine{disk: saved(t, name+"-inner", half.onDisk(t, "inner"))}
		for _, layer := range []machine{half, inner} {
			undamaged(t, layer.disk)
			if text := layer.onDisk(t, "last"); text != "end" {
				t.Errorf("the file written last on %s holds %q", filepath.Base(layer.disk), text)
			}
		}
		if out, err := exec.CommandContext(t.Context(), mdadm, "--examine", half.disk).CombinedOutput(); err != nil || !strings.Contains(string(out), "State : clean") {
			t.Errorf("mdadm --examine %s: %v\n%s", name, err, out)
		}
	}
	if len(content[0]) < mirrored || content[0][:mirrored] != content[1][:mirrored] {
		t.Error("the halves of the mirror differ")
	}
}

// saved writes a file of the test.
func saved(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestE13Kexec loads a kernel and reboots. The machine goes down as for a reboot and the kernel starts; its file
// systems have nothing to recover.
func TestE13Kexec(t *testing.T) {
	need.Time(t)
	l, k := needFirst(t)
	image := standaloneImage(t, l, k, diskOnData+`
[[service]]
name = "start"
exec = "/bin/busybox"
args = ["sh", "-c", "date >> /data/starts"]
type = "oneshot"
after = ["data"]
`)
	m := machine{disk: rootDisk(t, l, func(root string) error {
		tool(t, "cp", k.Vmlinuz, filepath.Join(root, "vmlinuz"))
		tool(t, "cp", image, filepath.Join(root, "image"))
		return nil
	}).File}
	m.start(t, l, k, image)
	m.done(t, "start")
	ask[any](t, m.Client, guest.Kexec, "/data/vmlinuz /data/image "+bootArgs+"second=kernel")
	if err := m.v.Send(guest.Exec + " /sbin/reboot"); err != nil {
		t.Fatal(err)
	}
	m.Client = client(t, m.v, time.Minute)
	if line := ask[string](t, m.Client, guest.Cat, "/proc/cmdline"); !strings.Contains(line, "second=kernel") {
		t.Errorf("after the reboot the command line is %s", line)
	}
	m.done(t, "start")
	if log := ask[string](t, m.Client, guest.Dmesg, ""); !strings.Contains(log, "EXT4-fs (vda): mounted") || strings.Contains(log, "recovery") {
		t.Error("the kernel that kexec started has not found a clean disk")
	}
	m.powerOff(t)
	if starts := strings.Count(m.onDisk(t, "starts"), "\n"); starts != 2 {
		t.Errorf("%d starts are on the disk, want 2", starts)
	}
}
