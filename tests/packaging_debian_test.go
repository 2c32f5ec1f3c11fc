package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// TestFreshDebian installs hapax into a Debian that has never seen it, and then a kernel. What kernel-install(8) puts on the EFI
// system partition there is an entry that systemd-boot starts.
func TestFreshDebian(t *testing.T) {
	need.Time(t)
	need.Root(t)
	l := needQEMU(t)
	k := kernel(t, l, lab.Kernels()[0])
	f := openFirmware(t, l)
	hapax, err := l.Hapax(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, install := range map[string]func(root string){
		"make install": func(root string) { tool(t, "make", "-C", l.Root, "install", "DESTDIR="+root) },
		"deb": func(root string) {
			cmd := exec.CommandContext(t.Context(), filepath.Join(l.Root, "packaging/deb/build.sh"), "0.1.2", root)
			cmd.Env = append(os.Environ(), "BIN="+hapax)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("build.sh: %v\n%s", err, out)
			}
			tool(t, "chroot", root, "dpkg", "-i", "/hapax_0.1.2_amd64.deb")
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := l.FreshDebian(t.Context(), root, "systemd"); err != nil {
				t.Fatal(err)
			}
			install(root)
			const token = "0f5b8a0c9f0f4a0f8f5a1c1f7d2b3e4a" // the id of the machine
			cmd := exec.CommandContext(t.Context(), "sh", "-c", `set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$ROOT/boot" # names in entries count from the top of its file system
cp -r "$KERNEL/lib/modules" "$ROOT/lib/"
cp "$KERNEL"/boot/vmlinuz-* "$KERNEL"/boot/config-* "$ROOT/boot/"
mkdir -p "$ROOT/boot/loader/entries" "$ROOT/etc/kernel"
echo "$TOKEN" >"$ROOT/etc/machine-id"
echo "$CMDLINE" >"$ROOT/etc/kernel/cmdline"
printf 'layout=bls\ninitrd_generator=hapax\n' >"$ROOT/etc/kernel/install.conf"
mount -t proc proc "$ROOT/proc"
BOOT_ROOT=/boot chroot "$ROOT" kernel-install -v add "$RELEASE" "/boot/vmlinuz-$RELEASE"
cp -r "$ROOT/boot/." "$OUT"`)
			boot := t.TempDir()
			cmd.Env = append(os.Environ(), "ROOT="+root, "OUT="+boot, "KERNEL="+k.Root, "RELEASE="+k.Release, "TOKEN="+token,
				"CMDLINE="+formatArgs+" root=UUID="+rootUUID)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
			if log, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, log)
			}

			disk := espDisk(t, map[string]string{
				"EFI/BOOT/BOOTX64.EFI": f.Loader, "loader/entries/x.conf": filepath.Join(boot, "loader/entries", token+"-"+k.Release+".conf"),
				token + "/" + k.Release + "/linux":  filepath.Join(boot, token, k.Release, "linux"),
				token + "/" + k.Release + "/initrd": filepath.Join(boot, token, k.Release, "initrd"),
			})
			out, err := exec.CommandContext(t.Context(), hapax, "check", "--modules-dir", k.ModulesDir, disk).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "loader/entries/x.conf: initramfs by hapax") {
				t.Errorf("hapax check: %v\n%s", err, out)
			}
			m := f.machine(t, false)
			m.Disks = []string{disk, rootDisk(t, l, nil).File}
			checkRoot(t, vm.Run(t, l.Logs(), vm.Config{Machine: m}))
		})
	}
}

// espDisk makes a disk with nothing but an EFI system partition that holds copies of files, as others make them: with sfdisk,
// mkfs.vfat and mtools.
func espDisk(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	esp, disk := filepath.Join(dir, "esp"), filepath.Join(dir, "disk")
	tool(t, "truncate", "-s", "126M", esp)
	tool(t, "mkfs.vfat", "-F", "32", esp)
	made := map[string]bool{}
	for name, file := range files {
		parts := strings.Split(name, "/")
		for i := 1; i < len(parts); i++ {
			if folder := strings.Join(parts[:i], "/"); !made[folder] {
				made[folder] = true
				tool(t, "mmd", "-i", esp, "::"+folder)
			}
		}
		tool(t, "mcopy", "-i", esp, file, "::"+name)
	}
	tool(t, "truncate", "-s", "128M", disk)
	tool(t, "sh", "-c", `printf 'label: gpt\nstart=2048, size=126MiB, type=U\n' | sfdisk -q "$1" && dd if="$2" of="$1" bs=1M seek=1 conv=notrunc,sparse status=none`,
		"sh", disk, esp)
	return disk
}
