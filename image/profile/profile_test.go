package profile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// laptop is a machine with an encrypted LVM root on NVMe behind a VMD, a keyboard behind I2C that waits for a pin controller,
// and a screen that EFI has set up. Lines are "FILE = CONTENT" or "LINK -> TARGET".
const laptop = `
proc/sys/kernel/osrelease = 6.12.0-laptop
proc/self/mountinfo = 20 1 0:19 / /proc rw - proc proc rw\n25 1 253:1 / / rw,noatime shared:1 - ext4 /dev/mapper/vg-root rw\n26 25 259:1 / /boot/a\\040b rw - vfat /dev/nvme0n1p1 rw
proc/cpuinfo = processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 142\nmodel name\t: Intel\nstepping\t: 10\nflags : x\n\nprocessor\t: 1\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 142\nstepping\t: 10
sys/devices/pci0/modalias = pci:vmd
sys/devices/pci0/serial_number = S3R1AL
sys/devices/pci0/driver -> ../../bus/pci/drivers/vmd
sys/bus/pci/drivers/vmd/module -> ../../../../module/vmd
sys/module/vmd/refcnt = 1
sys/devices/pci0/pci1/nvme/modalias = pci:nvme
sys/devices/pci0/pci1/nvme/driver -> ../../../../bus/pci/drivers/nvme
sys/bus/pci/drivers/nvme/module -> ../../../../module/nvme
sys/module/nvme/refcnt = 1
sys/devices/pci0/pci1/nvme/nvme0/nvme0n1/dev = 259:0
sys/devices/pci0/pci1/nvme/nvme0/nvme0n1/nvme0n1p2/partition = 2
sys/class/block/nvme0n1p2 -> ../../devices/pci0/pci1/nvme/nvme0/nvme0n1/nvme0n1p2
sys/devices/virtual/block/dm-0/dm/uuid = CRYPT-LUKS2-0123456789abcdef-luks
sys/devices/virtual/block/dm-0/slaves/nvme0n1p2 -> ../../../../pci0/pci1/nvme/nvme0/nvme0n1/nvme0n1p2
sys/devices/virtual/block/dm-1/dm/uuid = LVM-secretuuid
sys/devices/virtual/block/dm-1/dm/name = vg-root
sys/devices/virtual/block/dm-1/slaves/dm-0 -> ../../dm-0
sys/dev/block/253:1 -> ../../devices/virtual/block/dm-1
sys/devices/platform/i2c/driver -> ../../../bus/platform/drivers/i2c_designware
sys/bus/platform/drivers/i2c_designware/module -> ../../../../module/i2c_designware_platform
sys/module/i2c_designware_platform/refcnt = 1
sys/devices/platform/i2c/supplier:pins/supplier -> ../../pins
sys/devices/platform/pins/driver -> ../../../bus/platform/drivers/pinctrl
sys/bus/platform/drivers/pinctrl/module -> ../../../../module/pinctrl_sunrise
sys/module/pinctrl_sunrise/refcnt = 1
sys/devices/platform/i2c/hid/modalias = hid:b0018
sys/devices/platform/i2c/hid/driver -> ../../../../bus/hid/drivers/generic
sys/bus/hid/drivers/generic/module -> ../../../../module/hid_generic
sys/module/hid_generic/refcnt = 1
sys/devices/platform/i2c/hid/input/input3/capabilities/key = 10000 7ff 0 fffffffffffffffe
sys/class/input/input3 -> ../../devices/platform/i2c/hid/input/input3
sys/devices/platform/button/driver -> ../../../bus/platform/drivers/button
sys/bus/platform/drivers/button/module -> ../../../../module/power_button
sys/module/power_button/refcnt = 1
sys/devices/platform/button/input/input1/capabilities/key = 10000000000000 0
sys/class/input/input1 -> ../../devices/platform/button/input/input1
sys/class/tty/console/active = tty0
sys/firmware/efi/fw_platform_size = 64
sys/devices/gpu/driver -> ../../bus/pci/drivers/i915
sys/bus/pci/drivers/i915/module -> ../../../../module/i915
sys/module/i915/refcnt = 1
sys/devices/gpu/graphics/fb0/device -> ../..
sys/class/graphics/fb0 -> ../../devices/gpu/graphics/fb0
`

// board is one with btrfs on two disks, a serial console of a USB adapter, and a screen that only its own driver knows.
const board = `
proc/self/mountinfo = 25 1 0:30 /@ / rw - btrfs /dev/sda2 rw\n26 25 8:3 / /usr ro - erofs /dev/sda3 ro
sys/devices/ahci/driver -> ../../bus/pci/drivers/ahci
sys/bus/pci/drivers/ahci/module -> ../../../../module/ahci
sys/module/ahci/refcnt = 1
sys/devices/ahci/sda/sda2/partition = 2
sys/devices/ahci/sda/sda3/partition = 3
sys/class/block/sda2 -> ../../devices/ahci/sda/sda2
sys/dev/block/8:3 -> ../../devices/ahci/sda/sda3
sys/devices/virtual/block/md0/md/level = raid1
sys/devices/virtual/block/md0/slaves/vda -> ../../../../virtio/vda
sys/devices/virtio/driver -> ../../bus/virtio/drivers/virtio_blk
sys/bus/virtio/drivers/virtio_blk/module -> ../../../../module/virtio_blk
sys/module/virtio_blk/refcnt = 1
sys/devices/virtio/vda/dev = 254:0
sys/fs/btrfs/0123-uuid/devices/sda2 -> ../../../../devices/ahci/sda/sda2
sys/fs/btrfs/0123-uuid/devices/md0 -> ../../../../devices/virtual/block/md0
sys/fs/btrfs/9999-uuid/devices/sdz -> ../../../../devices/gone
sys/class/tty/console/active = tty0 ttyUSB0 hvc0
sys/devices/usb/1-1/driver -> ../../../bus/usb/drivers/ftdi
sys/bus/usb/drivers/ftdi/module -> ../../../../module/ftdi_sio
sys/module/ftdi_sio/refcnt = 1
sys/devices/usb/driver -> ../../bus/pci/drivers/xhci
sys/bus/pci/drivers/xhci/module -> ../../../../module/xhci_pci
sys/module/xhci_pci/refcnt = 1
sys/bus/usb/devices/usb1 -> ../../../devices/usb
sys/devices/usb/1-1/tty/ttyUSB0/device -> ../..
sys/class/tty/ttyUSB0 -> ../../devices/usb/1-1/tty/ttyUSB0
sys/devices/gpu/driver -> ../../bus/platform/drivers/vc4
sys/bus/platform/drivers/vc4/module -> ../../../../module/vc4
sys/module/vc4/refcnt = 1
sys/devices/gpu/graphics/fb0/device -> ../..
sys/class/graphics/fb0 -> ../../devices/gpu/graphics/fb0
`

// makeRoot makes the files of a machine.
func makeRoot(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	for line := range strings.Lines(strings.TrimSpace(text)) {
		line = strings.TrimSuffix(line, "\n")
		name, target, link := strings.Cut(line, " -> ")
		file, content, _ := strings.Cut(line, " = ")
		if link {
			file = name
		}
		file = filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if link {
			err = os.Symlink(target, file)
		} else {
			content = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t").Replace(content)
			err = os.WriteFile(file, []byte(content+"\n"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// needs returns "FOR: MODULE..." for each purpose, without what every machine gets for its keyboard.
func needs(p Profile) []string {
	by := map[string][]string{}
	for _, n := range p.Needs {
		if !slices.Contains([]string{"atkbd", "i8042", "usbhid"}, n.Module) {
			by[n.For] = append(by[n.For], n.Module)
		}
	}
	var lines []string
	for purpose, modules := range by {
		lines = append(lines, fmt.Sprintf("%s: %s", purpose, strings.Join(modules, " ")))
	}
	slices.Sort(lines)
	return lines
}

func TestRecord(t *testing.T) {
	t.Parallel()
	p, err := Record(makeRoot(t, laptop))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"the keyboard: hid_generic i2c_designware_platform pinctrl_sunrise",
		"the root device: dm_cache dm_cache_smq dm_crypt dm_mirror dm_mod dm_raid dm_snapshot dm_thin_pool dm_writecache nvme vmd",
		"the root file system: fs-ext4",
	}
	if diff := cmp.Diff(want, needs(p)); diff != "" {
		t.Errorf("needs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"hid:b0018", "pci:nvme", "pci:vmd"}, p.Modaliases); diff != "" {
		t.Errorf("modaliases (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]CPU{{"GenuineIntel", 6, 142, 10}}, p.CPUs); diff != "" || p.Release != "6.12.0-laptop" {
		t.Errorf("release %q, processors (-want +got):\n%s", p.Release, diff)
	}
	var text bytes.Buffer
	if err := p.Write(&text); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"S3R1AL", "secretuuid", "0123456789abcdef", "vg-root"} {
		if strings.Contains(text.String(), secret) {
			t.Errorf("the profile tells %s:\n%s", secret, &text)
		}
	}
	again, err := Parse(&text)
	if diff := cmp.Diff(p, again); diff != "" || err != nil {
		t.Errorf("read back: %v (-want +got):\n%s", err, diff)
	}
}

func TestRecordBoard(t *testing.T) {
	t.Parallel()
	p, err := Record(makeRoot(t, board))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/usr device: ahci", "/usr file system: fs-erofs",
		"the console: ftdi_sio vc4 virtio_console xhci_pci",
		"the keyboard: hid_generic xhci_pci",
		"the root device: ahci md-raid1 md_mod virtio_blk",
		"the root file system: fs-btrfs",
	}
	if diff := cmp.Diff(want, needs(p)); diff != "" {
		t.Errorf("needs (-want +got):\n%s", diff)
	}
}

// This machine is one, too. What it needs cannot be known here, but a walk over its real sysfs must come to an end.
func TestRecordThisMachine(t *testing.T) {
	t.Parallel()
	p, err := Record("/")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Modaliases) == 0 || p.Release == "" {
		t.Errorf("this machine has %d modaliases and release %q", len(p.Modaliases), p.Release)
	}
	if p, err := Record(t.TempDir()); err == nil {
		t.Errorf("Record of an empty folder = %+v", p)
	}
}

// The architecture is that of the machine, not of the one that reads its files.
func TestRecordArch(t *testing.T) {
	t.Parallel()
	for kernel, want := range map[string]string{"aarch64": "arm64", "x86_64": "amd64", "riscv64": "riscv64", "": runtime.GOARCH} {
		text := "sys/devices/a/modalias = x"
		if kernel != "" {
			text += "\nproc/sys/kernel/arch = " + kernel
		}
		if p, err := Record(makeRoot(t, text)); err != nil || p.Arch != want {
			t.Errorf("%q: recorded as %q, %v; want %q", kernel, p.Arch, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                             "no profile",
		"[]":                           "no profile",
		`{"version":2}`:                "version 2",
		`{"version":1,"serial":"x"}`:   "unknown field",
		`{"version":1,"modaliases":3}`: "no profile",
		`{"version":1} {"version":1}`:  "something follows the profile",
		`{"version":1} x`:              "something follows the profile",
		`{"release":"` + strings.Repeat("x", maxSize) + `"}`: "at most 16 MiB",
	} {
		if p, err := Parse(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.40q) = %+v, %v; want an error with %q", text, p, err, want)
		}
	}
	if _, err := Read("/nonexistent/profile"); err == nil || !strings.Contains(err.Error(), "/nonexistent/profile") {
		t.Errorf("Read of no file = %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"modaliases":["a"],"needs":[{"module":"m","for":"f"}],"cpus":[{"family":6}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(bytes.NewReader(data))
		if err != nil {
			return
		}
		var text bytes.Buffer
		if err := p.Write(&text); err != nil {
			t.Fatal(err)
		}
		again, err := Parse(&text)
		if diff := cmp.Diff(p, again); diff != "" || err != nil {
			t.Errorf("read back: %v (-want +got):\n%s", err, diff)
		}
	})
}
