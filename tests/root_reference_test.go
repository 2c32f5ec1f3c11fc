package tests

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// The partitions of gptDisk.
const (
	espPartUUID  = "2b2f9a3e-6a1c-4d6b-8f0e-0d8a4f7f0001"
	rootPartUUID = "2b2f9a3e-6a1c-4d6b-8f0e-0d8a4f7f0002"
)

// tool runs a program of the host.
func tool(t testing.TB, name string, args ...string) {
	t.Helper()
	path, err := debian.Tool(name)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// gptDisk makes a disk with an empty ESP, the root of rootDisk, and two partitions of one name.
func gptDisk(t testing.TB, l *lab.Lab) string {
	t.Helper()
	content, err := os.ReadFile(rootDisk(t, l, nil).File)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "gpt.img")
	const rootStart = 4096 // sectors
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 48<<20); err != nil {
		t.Fatal(err)
	}
	tool(t, "sgdisk", "-a", "2048",
		"-n", "1:2048:4095", "-t", "1:ef00", "-u", "1:"+espPartUUID, "-c", "1:ESP",
		"-n", "2:4096:+32M", "-t", "2:8304", "-u", "2:"+rootPartUUID, "-c", "2:root / disk",
		"-n", "3:+0:+1M", "-c", "3:same", "-n", "4:+0:+1M", "-c", "4:same", file)
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(content, rootStart*512); err != nil {
		t.Fatal(err)
	}
	return file
}

// A reference is a way to name the root, and the machine that has one so named.
type reference struct {
	name, root string
	kernel     int // of lab.Kernels
	machine    func(t *testing.T, l *lab.Lab) qemu.Machine
	device     string // in the report
	fstype     string // of / in the running system
}

func references() []reference {
	gpt := func(t *testing.T, l *lab.Lab) qemu.Machine {
		return qemu.Machine{Extra: []string{
			"-drive", "file=" + gptDisk(t, l) + ",format=raw,if=none,id=disk", "-device", "virtio-blk-pci,drive=disk,serial=My_Disk",
		}}
	}
	return []reference{
		{"PARTNROFF", "PARTUUID=" + espPartUUID + "/PARTNROFF=1", 0, gpt, "/dev/vda2", "ext4"},
		{"PARTLABEL", `"PARTLABEL=root / disk"`, 0, gpt, "/dev/vda2", "ext4"},
		{"MAJOR:MINOR", "254:2", 0, gpt, "/dev/vda2", "ext4"},
		{"by-id", "/dev/disk/by-id/virtio-My_Disk-part2", 1, gpt, "/dev/vda2", "ext4"},
		{"overlay", "overlay:/dev/vda", 0, squashDisk, "/dev/vda", "overlay"},
		{"9p", "9p:hostroot", 2, shared, "hostroot", "9p"},
		{"virtiofs", "virtiofs:hostroot", 1, sharedFS, "hostroot", "virtiofs"},
	}
}

// squashDisk is a machine whose disk is a read-only root.
func squashDisk(t *testing.T, l *lab.Lab) qemu.Machine {
	t.Helper()
	file := filepath.Join(t.TempDir(), "root.squashfs")
	tool(t, "mksquashfs", rootFolder(t, l), file, "-quiet", "-no-progress", "-comp", "gzip")
	return qemu.Machine{Disks: []string{file}}
}

// shared is a machine without a disk, whose root is a folder of the host.
func shared(t *testing.T, l *lab.Lab) qemu.Machine {
	t.Helper()
	return qemu.Machine{Extra: []string{
		"-fsdev", "local,id=share,path=" + rootFolder(t, l) + ",security_model=none,readonly=on",
		"-device", "virtio-9p-pci,fsdev=share,mount_tag=hostroot",
	}}
}

// rootFolder returns a folder with the files of rootDisk.
func rootFolder(t *testing.T, l *lab.Lab) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"dev", "proc", "sys", "run", "tmp", "sbin"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.InstallGuest(t.Context(), filepath.Join(dir, "sbin/init")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestRootReferences boots into roots that are named by other things than their contents.
func TestRootReferences(t *testing.T) {
	need.Time(t)
	l := needQEMU(t)
	for _, tt := range references() {
		t.Run(tt.name, func(t *testing.T) {
			k := kernel(t, l, lab.Kernels()[tt.kernel])
			image, err := l.HapaxImage(t.Context(), k, "--mode", "universal")
			if err != nil {
				t.Fatal(err)
			}
			m := tt.machine(t, l)
			m.Kernel, m.Initrd, m.Append = k.Vmlinuz, image, bootArgs+"root="+tt.root
			v := vm.Run(t, l.Logs(), vm.Config{Machine: m})
			var start guest.Start
			if err := guest.Await(v, time.Minute, "start", &start); err != nil {
				t.Fatal(err)
			}
			c := client(t, v, time.Minute)
			r := ask[report](t, c, guest.Report, "")
			if r.Root == nil || r.Root.Device != tt.device {
				t.Errorf("report: root %+v, want %s", r.Root, tt.device)
			}
			if got := fstypeOf(ask[string](t, c, guest.Cat, "/proc/mounts"), "/"); got != tt.fstype {
				t.Errorf("/ is %s, want %s", got, tt.fstype)
			}
			t.Logf("root=%s: %s mounted at %.2f s", tt.root, tt.device, r.Clock.Mounted/1000)
		})
	}
}

// fstypeOf returns the type of the last mount on a folder.
func fstypeOf(mounts, dir string) (fstype string) {
	for line := range bytes.Lines([]byte(mounts)) {
		if f := bytes.Fields(line); len(f) >= 3 && string(f[1]) == dir {
			fstype = string(f[2])
		}
	}
	return fstype
}
