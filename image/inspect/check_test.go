package inspect

import (
	"bytes"
	"debug/elf"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"

	"hapax/image/archive"
	"hapax/image/profile"
)

const modulesDir = "lib/modules/6.1-test/"

// goodImage returns the files of an image with which nothing is wrong: scsi_disk needs scsi_core and wants a checksum.
func goodImage() files {
	magic := "vermagic=6.1-test SMP"
	return files{
		"init":                                 staticELF(elf.EM_X86_64),
		"bin/sh":                               "#!/bin/busybox sh\n",
		"bin/busybox":                          staticELF(elf.EM_X86_64),
		"etc/initrd-release":                   "NAME=hapax\nID=hapax\n",
		"lib/firmware/disk.bin.xz":             "firmware",
		modulesDir + "kernel/core.ko":          module("license=GPL", magic),
		modulesDir + "kernel/disk.ko":          module("license=GPL", "firmware=disk.bin", "firmware=disk-v2.bin", magic),
		modulesDir + "kernel/crc.ko":           module("license=GPL", magic),
		modulesDir + "modules.dep":             "kernel/disk.ko: kernel/core.ko\nkernel/core.ko:\nkernel/crc.ko:\n",
		modulesDir + "modules.alias":           "alias scsi:t-0x00* disk\nalias fs-ext4 crc\n",
		modulesDir + "modules.softdep":         "softdep disk pre: crc\n",
		modulesDir + "modules.builtin":         "kernel/serio.ko\n",
		modulesDir + "modules.order":           "",
		modulesDir + "hapax.version.txt":       "",
		modulesDir + "modules.builtin.modinfo": "serio.alias=serio:ty01\x00",
	}
}

// wholeTree writes the whole tree of the kernel to a folder of the host and returns it.
func wholeTree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "lib/modules/6.1-test")
	for name, content := range map[string]string{
		"modules.dep":             "kernel/drivers/scsi/disk.ko: kernel/core.ko\nkernel/core.ko:\nkernel/crc.ko:\nkernel/drivers/ata/ahci.ko: kernel/core.ko\nkernel/sound/card.ko:\n",
		"modules.alias":           "alias scsi:t-0x00* disk\nalias fs-ext4 crc\nalias pci:v00008086* ahci\nalias pci:sound* card\n",
		"modules.builtin":         "kernel/serio.ko\nkernel/fs/vfat.ko\n",
		"modules.builtin.modinfo": "serio.alias=serio:ty01\x00vfat.alias=fs-vfat\x00",
		"modules.order":           "", "modules.symbols": "", "modules.softdep": "",
		"kernel/drivers/scsi/disk.ko": "", "kernel/core.ko": "", "kernel/crc.ko": "", "kernel/drivers/ata/ahci.ko": "", "kernel/sound/card.ko": "",
		"config": "CONFIG_BLK_DEV_INITRD=y\nCONFIG_BINFMT_ELF=y\nCONFIG_BINFMT_SCRIPT=y\nCONFIG_MODULES=y\nCONFIG_PROC_FS=y\nCONFIG_SYSFS=y\n" +
			"CONFIG_TMPFS=y\nCONFIG_DEVTMPFS=y\nCONFIG_NET=y\nCONFIG_UNIX=y\nCONFIG_EPOLL=y\nCONFIG_FUTEX=y\nCONFIG_FW_LOADER_COMPRESS_XZ=y\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// aMachine has a disk that the image drives, a keyboard that the kernel drives, and a root on the disk.
func aMachine() *profile.Profile {
	return &profile.Profile{
		Version: 1, Arch: "amd64", Modaliases: []string{"scsi:t-0x00", "serio:ty01", "virtual:thing"},
		Needs: []profile.Need{{Module: "disk", For: "the root device"}, {Module: "fs-ext4", For: "the root file system"}},
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	clean := []string{"note: disk: it names firmware that is not in the image: disk-v2.bin, of 2"}
	for name, tt := range map[string]struct {
		change func(f files, m *profile.Profile, target *Target)
		want   []string // findings, in their order
	}{
		"nothing is wrong": {func(files, *profile.Profile, *Target) {}, clean},
		"without the tree": {func(_ files, _ *profile.Profile, target *Target) { target.ModulesDir = "" }, slices.Concat(clean,
			[]string{"note: CONFIG_*: no file with the kernel's configuration: give one with --kernel-config"})},
		"no init": {func(f files, _ *profile.Profile, _ *Target) { delete(f, "init") }, slices.Concat(
			[]string{"error: /init: not in the image: the kernel would look for a root by itself, without any module"}, clean)},
		"empty init": {func(f files, _ *profile.Profile, _ *Target) { f["init"] = "" }, slices.Concat(
			[]string{"error: /init: the kernel starts it first, but it is neither a script nor an ELF program: it is empty"}, clean)},
		"a link to nowhere": {func(f files, _ *profile.Profile, _ *Target) { f["init"] = "->/lib/systemd/systemd" }, slices.Concat(
			[]string{"error: /init: not in the image: the kernel would look for a root by itself, without any module"}, clean)},
		"an init for others": {func(f files, _ *profile.Profile, _ *Target) { f["init"] = staticELF(elf.EM_AARCH64) }, slices.Concat(
			[]string{"error: /init: the kernel starts it first, but it is for EM_AARCH64, while the machine is EM_X86_64"}, clean)},
		"init without a loader": {func(f files, _ *profile.Profile, _ *Target) { f["init"] = dynamicELF("/lib64/ld.so") }, slices.Concat(
			[]string{"error: /init: the kernel starts it first, but its loader /lib64/ld.so is not in the image"}, clean)},
		"no interpreter": {func(f files, _ *profile.Profile, _ *Target) { delete(f, "bin/busybox") }, slices.Concat(
			[]string{`warning: /bin/sh: a boot that fails starts it, but its interpreter "/bin/busybox" is not in the image`}, clean)},
		"a shell is forbidden": {func(_ files, _ *profile.Profile, target *Target) { target.Shell = NoShell }, slices.Concat(
			[]string{"error: /bin/sh: in the image, and a shell is forbidden: build it without --shell"}, clean)},
		"a shell is required": {func(f files, _ *profile.Profile, target *Target) { target.Shell = ShellRequired; delete(f, "bin/sh") }, slices.Concat(
			[]string{"error: /bin/sh: not in the image, and a shell is required: build it with --shell"}, clean)},
		"an incomplete image": {func(f files, _ *profile.Profile, _ *Target) { delete(f, modulesDir+"kernel/core.ko") }, slices.Concat([]string{
			"error: disk: it needs core, which is not in the image: build the image again",
			"error: core: the index lists kernel/core.ko, which is not in the image: build the image again",
		}, clean)},
		"an unlisted module": {func(f files, _ *profile.Profile, _ *Target) { f[modulesDir+"extra.ko"] = module() }, slices.Concat([]string{
			"warning: extra: " + modulesDir + "extra.ko is not in the index, so nothing finds it: run depmod before the image is built",
		}, clean)},
		"a module of another kernel": {func(f files, _ *profile.Profile, _ *Target) {
			f[modulesDir+"kernel/disk.ko"] = module("license=GPL", "vermagic=6.2 SMP")
		}, []string{"error: disk: built for the kernel 6.2, and lies among the modules of 6.1-test"}},
		"a damaged module": {func(f files, _ *profile.Profile, _ *Target) { f[modulesDir+"kernel/disk.ko"] = "\xfd7zXZ\x00" }, []string{
			"error: disk: lib/modules/6.1-test/kernel/disk.ko is damaged: xz: data is truncated or corrupt",
		}},
		"a damaged module that nobody needs": {func(f files, _ *profile.Profile, _ *Target) {
			f[modulesDir+"kernel/other.ko.xz"] = "\xfd7zXZ\x00"
			f[modulesDir+"modules.dep"] += "kernel/other.ko.xz:\n"
		}, slices.Concat([]string{
			"error: other: lib/modules/6.1-test/kernel/other.ko.xz is damaged: cut short, or not written to its end",
		}, clean)},
		"no firmware": {func(f files, _ *profile.Profile, _ *Target) { delete(f, "lib/firmware/disk.bin.xz") }, []string{
			"warning: disk: none of the firmware that it names is in the image: disk.bin and 1 other",
		}},
		"a device without its module": {func(_ files, m *profile.Profile, _ *Target) {
			m.Modaliases = append(m.Modaliases, "pci:v00008086d1", "pci:v00008086d2", "pci:sound")
		}, slices.Concat([]string{
			"warning: ahci: not in the image, would drive 2 devices, pci:v00008086d1: add it with --modules ahci",
			"note: card: not in the image, would drive 1 device, pci:sound",
		}, clean)},
		"and nobody knows the root": {func(_ files, m *profile.Profile, _ *Target) {
			m.Modaliases, m.Needs = append(m.Modaliases, "pci:v00008086d1"), nil
		}, slices.Concat([]string{
			"error: ahci: not in the image, would drive 1 device, pci:v00008086d1: it may be what the root lies on; add it with --modules ahci",
		}, clean)},
		"the root's module": {func(_ files, m *profile.Profile, _ *Target) {
			m.Modaliases = append(m.Modaliases, "pci:v00008086d1")
			m.Needs = append(m.Needs, profile.Need{Module: "ahci", For: "the root device"}, profile.Need{Module: "fs-vfat", For: "/usr"})
		}, slices.Concat([]string{"error: ahci: not in the image, for the root device: add it with --modules ahci"}, clean)},
		"an unknown file system": {func(_ files, m *profile.Profile, _ *Target) {
			m.Needs = append(m.Needs, profile.Need{Module: "fs-zfs", For: "the root file system"})
		}, slices.Concat([]string{"warning: fs-zfs: for the root file system: neither the image nor the kernel is known to have it"}, clean)},
		"a denied module": {func(f files, _ *profile.Profile, _ *Target) { f["etc/modprobe.d/a.conf"] = "deny disk\n" }, slices.Concat(
			[]string{"warning: disk: the image denies it (/etc/modprobe.d/a.conf:1), although it would serve: device scsi:t-0x00"}, clean)},
		"a blacklisted module": {func(f files, m *profile.Profile, _ *Target) {
			f["etc/modprobe.d/a.conf"] = "blacklist disk\n"
			m.Modaliases = append(m.Modaliases, "scsi:t-0x00-other")
			m.Needs = m.Needs[1:]
		}, []string{"note: disk: blacklisted in the image, so device scsi:t-0x00 does not load it"}},
		"a missing option": {func(_ files, _ *profile.Profile, target *Target) {
			target.KernelConfig = filepath.Join(target.ModulesDir, "other")
			write(t, target.KernelConfig, "CONFIG_BLK_DEV_INITRD=y\nCONFIG_UNIX=m\nCONFIG_NET=y\nCONFIG_TMPFS=y\nCONFIG_DEVTMPFS=y\nCONFIG_EPOLL=y\nCONFIG_FUTEX=y\n"+
				"CONFIG_BINFMT_ELF=y\nCONFIG_BINFMT_SCRIPT=y\nCONFIG_PROC_FS=y\nCONFIG_SYSFS=y\nCONFIG_MODULES=y\n")
		}, slices.Concat([]string{
			"error: CONFIG_UNIX: a module in CONFIG, and too late as such: init takes it for granted",
			"warning: CONFIG_FW_LOADER_COMPRESS_XZ: not set in CONFIG: the image has firmware packed as xz",
		}, clean)},
		"another kernel": {func(_ files, _ *profile.Profile, target *Target) {
			target.Kernel = filepath.Join(target.ModulesDir, "other")
			write(t, target.Kernel, bzImage("6.2"))
		}, slices.Concat([]string{"error: KERNEL: the kernel is 6.2, but the image has the modules of 6.1-test"}, clean)},
		"no modules": {func(f files, m *profile.Profile, _ *Target) {
			maps.DeleteFunc(f, func(name, _ string) bool { return strings.HasPrefix(name, "lib/modules") })
			m.Modaliases, m.Needs = m.Modaliases[1:], m.Needs[1:]
		}, []string{
			"error: crc: not in the image, for the root file system: add it with --modules crc",
			"note: image: it holds no modules: the kernel has to drive everything itself",
			"note: CONFIG_*: no file with the kernel's configuration: give one with --kernel-config",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, m := goodImage(), aMachine()
			target := Target{Machine: m, Name: "a machine", ModulesDir: wholeTree(t), FirmwareDir: t.TempDir()}
			tt.change(f, m, &target)
			r, err := Check(open(t, newc(f.records()...)), target)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, finding := range r.Findings {
				line := finding.String()
				if target.KernelConfig != "" {
					line = strings.ReplaceAll(line, target.KernelConfig, "CONFIG")
				}
				if target.Kernel != "" {
					line = strings.ReplaceAll(line, target.Kernel, "KERNEL")
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// An image that hapax can read and the kernel cannot does not boot.
func TestCheckUnreadable(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	z, err := xz.WriterConfig{CheckSum: xz.CRC64}.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(z, newc(goodImage().records()...)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Check(open(t, packed.String()), Target{})
	if err != nil {
		t.Fatal(err)
	}
	const want = "error: image: archive 1 is xz with CRC64, which the kernel cannot unpack: pack it with xz --check=crc32"
	if got := r.Findings[0].String(); got != want {
		t.Errorf("found %q, want %q", got, want)
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCheckCounts(t *testing.T) {
	t.Parallel()
	m := aMachine()
	m.Modaliases = append(m.Modaliases, "pci:v00008086d2", "pci:v00008086d1", "pci:sound")
	r, err := Check(open(t, squeeze(t, archive.LZ4, newc(goodImage().records()...))), Target{Machine: m, Name: "a machine", ModulesDir: wholeTree(t), FirmwareDir: "/nonexistent"})
	if err != nil {
		t.Fatal(err)
	}
	want := &Devices{
		Total: 6, Served: 1, Builtin: 1, Unknown: []string{"virtual:thing"},
		Left: []LeftOut{{"ahci", []string{"pci:v00008086d1", "pci:v00008086d2"}, true}, {"card", []string{"pci:sound"}, false}},
	}
	if diff := cmp.Diff(want, r.Devices); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
	if r.Maker != "hapax" || r.Release != "6.1-test" || r.Modules != 3 || r.Worst() != Error {
		t.Errorf("maker %q, release %q, %d modules, worst %q; want hapax, 6.1-test, 3 and error for RD_LZ4", r.Maker, r.Release, r.Modules, r.Worst())
	}
}

// Images of booster have no index and no folder for the release: theirs is made from the modules.
func TestCheckBooster(t *testing.T) {
	t.Parallel()
	magic := "vermagic=6.1-test SMP"
	image := newc(files{
		"init": staticELF(elf.EM_X86_64), "etc/booster.init.yaml": "kernel: 6.1-test\n", "lib": "->usr/lib",
		"usr/lib/modules/core.ko":       module("license=GPL", magic),
		"usr/lib/modules/disk.ko":       module("license=GPL", "depends=core,base-mod", "alias=scsi:t-0x00*", magic),
		"usr/lib/modules/base-mod.ko":   module("license=GPL", "depends=core", magic),
		"usr/lib/modules/booster.alias": "scsi:t-0x00* disk\nfs-ext4 core\n",
	}.records()...)
	r, err := Check(open(t, squeeze(t, archive.Zstd, image)), Target{Machine: aMachine(), Name: "a machine"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Maker != "booster" || r.Release != "6.1-test" || r.Devices.Served != 1 || len(r.Devices.Unknown) != 2 || r.Worst() != Note {
		t.Errorf("%+v", r)
	}
	broken := strings.ReplaceAll(image, "usr/lib/modules/core.ko", "usr/lib/modules/code.ko")
	if r, err = Check(open(t, broken), Target{Machine: aMachine(), Name: "a machine"}); err != nil || r.Worst() != Error {
		t.Errorf("without core: %+v, %v; want an error", r, err)
	}
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	image := newc(goodImage().records()...)
	text := filepath.Join(t.TempDir(), "text")
	write(t, text, "hello\n")
	for name, tt := range map[string]struct {
		image  string
		target Target
		want   string
	}{
		"no image":          {"text", Target{}, "neither a newc archive nor compressed"},
		"cut":               {image[:len(image)/2], Target{}, "cut short"},
		"no whole tree":     {image, Target{ModulesDir: "/nonexistent"}, "no modules.dep"},
		"no kernel":         {image, Target{Kernel: "/nonexistent"}, "no such file"},
		"no configuration":  {image, Target{KernelConfig: "/nonexistent"}, "no such file"},
		"no configuration?": {image, Target{KernelConfig: text}, "no configuration of a kernel"},
	} {
		if r, err := Check(open(t, tt.image), tt.target); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", name, r, err, tt.want)
		}
	}
}

// Check reads whatever lies in an image, so nothing there may end it badly.
func FuzzCheck(f *testing.F) {
	f.Add("modules.dep", []byte("kernel/disk.ko: kernel/disk.ko"), "init", []byte(dynamicELF("x")))
	f.Add("modules.dep.bin", []byte("\xb0\x07\xf4\x57\x00\x02\x00\x01\x20\x00\x00\x10"), "kernel/disk.ko", []byte(module("a=b", "vermagic=")))
	f.Add("modules.softdep", []byte("softdep disk pre: disk"), "../../../etc/modprobe.d/x.conf", []byte("alias a* disk"))
	f.Fuzz(func(t *testing.T, index string, content []byte, other string, data []byte) {
		image := goodImage()
		image[modulesDir+index] = string(content)
		image[modulesDir+other] = string(data)
		image["init"] = string(data)
		s := open(t, newc(image.records()...))
		m := aMachine()
		r, err := Check(s, Target{Machine: m, Name: "a machine", Limits: archive.Limits{Content: 1 << 20}})
		if err == nil && r.Devices.Served+r.Devices.Builtin+len(r.Devices.Unknown) > r.Devices.Total {
			t.Errorf("devices do not add up: %+v", r.Devices)
		}
	})
}
