package tests

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// install puts hapax into an empty prefix, as make install does.
func install(t *testing.T, l *lab.Lab, prefix string) (destdir string) {
	t.Helper()
	hapax, err := l.Hapax(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	destdir = t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", filepath.Join(l.Root, "packaging/install.sh"))
	cmd.Env = append(os.Environ(), "DESTDIR="+destdir, "PREFIX="+prefix, "BIN="+hapax)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("install.sh: %v\n%s", err, out)
	}
	return destdir
}

func TestInstall(t *testing.T) {
	t.Parallel()
	need.Long(t)
	l, err := openLab()
	if err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string][]string{
		"/usr": {
			"etc/kernel/postinst.d/zz-hapax 755", "etc/kernel/postrm.d/zz-hapax 755", "usr/bin/hapax 755", "usr/lib/kernel/install.d/55-hapax.install 755", "usr/lib/kernel/install.d/86-hapax.install 755",
			"usr/share/bash-completion/completions/hapax 644", "usr/share/doc/hapax/CHANGELOG.md 644", "usr/share/doc/hapax/LICENSE 644",
			"usr/share/doc/hapax/README.md 644", "usr/share/fish/vendor_completions.d/hapax.fish 644", "usr/share/zsh/vendor-completions/_hapax 644",
		},
		"/usr/local": {
			"etc/kernel/install.d/55-hapax.install 755", "etc/kernel/install.d/86-hapax.install 755", "etc/kernel/postinst.d/zz-hapax 755", "etc/kernel/postrm.d/zz-hapax 755", "usr/local/bin/hapax 755",
			"usr/local/share/bash-completion/completions/hapax 644", "usr/local/share/doc/hapax/CHANGELOG.md 644", "usr/local/share/doc/hapax/LICENSE 644",
			"usr/local/share/doc/hapax/README.md 644", "usr/local/share/fish/vendor_completions.d/hapax.fish 644", "usr/local/share/zsh/site-functions/_hapax 644",
		},
	} {
		dir := install(t, l, prefix)
		var got, pages []string
		err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			name, _ := filepath.Rel(dir, file)
			if strings.Contains(name, "/share/man/") {
				pages = append(pages, name)
			} else {
				got = append(got, name+" "+strings.TrimPrefix(info.Mode().Perm().String(), "-"))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range want {
			want[i] = strings.NewReplacer(" 755", " rwxr-xr-x", " 644", " rw-r--r--").Replace(line)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("PREFIX=%s (-want +got):\n%s", prefix, diff)
		}
		for _, page := range []string{"man1/hapax.1", "man1/hapax-build.1", "man5/hapax.toml.5", "man8/hapax-init.8", "man8/hapaxctl.8"} {
			if name := strings.TrimPrefix(prefix, "/") + "/share/man/" + page; !slices.Contains(pages, name) {
				t.Errorf("PREFIX=%s: no %s among %q", prefix, name, pages)
			}
		}
	}
}

// What the tests do in a root that has hapax installed and is else that of this machine: DEST lies on top of it, KERNEL is the
// root of a kernel's package, and WORK is empty. What comes to lie in /boot is copied to OUT. A file that is no
// image stands for the initramfs of another generator.
const inNewRoot = `set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$WORK"
mkdir "$WORK/upper" "$WORK/work" "$WORK/root"
cp -r "$DEST" "$WORK/dest" # no layer may lie in another one
mount -t overlay overlay -o "lowerdir=$WORK/dest:/,upperdir=$WORK/upper,workdir=$WORK/work" "$WORK/root"
cd "$WORK/root"
mkdir -p usr/lib/modules etc/kernel
mount -t tmpfs tmpfs boot
mount -t tmpfs tmpfs usr/lib/modules
mount --rbind /proc proc
mount --rbind /dev dev
cp -r "$KERNEL"/lib/modules/* usr/lib/modules/
cp "$KERNEL"/boot/vmlinuz-* "$KERNEL"/boot/config-* boot/
mkdir -p boot/loader/entries
echo "$TOKEN" >etc/machine-id
echo "$CMDLINE" >etc/kernel/cmdline
keep() { mkdir -p "$OUT/$1"; cp -r boot/. "$OUT/$1/"; }
installed() { printf 'layout=bls\n%s\n' "$1" >etc/kernel/install.conf; BOOT_ROOT=/boot chroot . kernel-install -v add "$RELEASE" "/boot/vmlinuz-$RELEASE" >&2; }
removed() { BOOT_ROOT=/boot chroot . kernel-install remove "$RELEASE" >&2; }
installed initrd_generator=hapax; keep chosen
removed; keep removed
installed initrd_generator=dracut; keep other; removed
# The first one was made; what is left is to see when one would be.
cp "$OUT/chosen/$TOKEN/$RELEASE/initrd" run/made
mv usr/bin/hapax usr/bin/hapax.real
cat >usr/bin/hapax <<'STUB'
#!/bin/sh
[ "$1" = build ] || exec hapax.real "$@"
for output; do :; done
cp /run/made "$output"
STUB
chmod 755 usr/bin/hapax
rm usr/sbin/depmod
ln -s ../bin/true usr/sbin/depmod
installed ""; keep none; removed
echo not hapax >"boot/initrd.img-$RELEASE"
installed ""; keep staged; removed
installed initrd_generator=hapax; keep instead; removed
rm "boot/initrd.img-$RELEASE"
echo initrd_generator=hapax >etc/kernel/install.conf
hook() { DEB_MAINT_PARAMS="'$2'" chroot . "/etc/kernel/$1/zz-hapax" "$RELEASE" "/boot/vmlinuz-$RELEASE" >&2; }
hook postinst.d configure; keep hook
hook postrm.d "upgrade' '6.1.193-1"; keep upgraded
hook postrm.d remove; keep unhook
echo not hapax >"boot/initrd.img-$RELEASE"
hook postrm.d remove; keep foreign
`

// kernel-install on a Debian with hapax in it makes an entry that boots, and only if hapax is the one to make it.
func TestKernelInstall(t *testing.T) {
	l := needQEMU(t)
	need.Root(t)
	k := kernel(t, l, lab.Kernels()[0])
	out := t.TempDir()
	disk := rootDisk(t, l, nil)
	const token = "5ec0f3b1d5a04b1f8d3c6b2e1a9f7c00" // the id of the machine
	cmd := exec.CommandContext(t.Context(), "sh", "-c", inNewRoot)
	cmd.Env = append(os.Environ(), "DEST="+install(t, l, "/usr"), "KERNEL="+k.Root, "WORK="+t.TempDir(), "OUT="+out, "RELEASE="+k.Release, "TOKEN="+token,
		"CMDLINE="+bootArgs+"root=UUID="+rootUUID+" installed.by=kernel-install")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if log, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	entry := "loader/entries/" + token + "-" + k.Release + ".conf"
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			return ""
		}
		return string(b)
	}
	chosen := read("chosen/" + entry)
	initrd := "/" + token + "/" + k.Release + "/initrd"
	for state, want := range map[string]bool{"chosen": true, "instead": true, "none": true, "other": false, "staged": false} {
		text := read(state + "/" + entry)
		if text == "" {
			t.Errorf("%s: no entry", state)
		}
		if got := strings.Contains(text, initrd+"\n"); got != want {
			t.Errorf("%s: an initramfs of hapax: %v, want %v:\n%s", state, got, want, text)
		}
		if n := strings.Count(text, "\ninitrd "); state != "other" && n != 1 {
			t.Errorf("%s: %d initramfs, want 1:\n%s", state, n, text)
		}
	}
	if read("removed/"+entry) != "" || read("removed"+initrd) != "" {
		t.Error("kernel-install remove has left something")
	}
	image := "/initrd.img-" + k.Release
	if read("hook"+image) != read("chosen"+initrd) || read("unhook"+image) != "" || read("foreign"+image) != "not hapax\n" {
		t.Error("the hooks of kernel packages make or remove the wrong initramfs")
	}

	_, options, _ := strings.Cut(chosen, "\noptions")
	options, _, _ = strings.Cut(options, "\n")
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: filepath.Join(out, "chosen", token, k.Release, "linux"), Initrd: filepath.Join(out, "chosen", initrd),
		CPUs: 1, Disks: []string{disk.File}, Append: strings.TrimSpace(options),
	}})
	var start guest.Start
	if err := guest.Await(v, time.Minute, "start", &start); err != nil {
		t.Fatal(err)
	}
	if cmdline := ask[string](t, client(t, v, time.Minute), guest.Cat, "/proc/cmdline"); !strings.Contains(cmdline, "installed.by=kernel-install") {
		t.Errorf("the command line is %q", cmdline)
	}
	if err := v.Send(guest.PowerOff); err != nil {
		t.Fatal(err)
	}
}

// The package holds what make install installs, and two builds of it are the same bytes.
func TestDeb(t *testing.T) {
	need.Time(t) // it compiles nfpm
	l, err := openLab()
	if err != nil {
		t.Fatal(err)
	}
	hapax, err := l.Hapax(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var packages [2][]byte
	dir := t.TempDir()
	for i := range packages {
		cmd := exec.CommandContext(t.Context(), filepath.Join(l.Root, "packaging/deb/build.sh"), "0.1.2", dir)
		cmd.Env = append(os.Environ(), "BIN="+hapax)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build.sh: %v\n%s", err, out)
		}
		if packages[i], err = os.ReadFile(filepath.Join(dir, "hapax_0.1.2_amd64.deb")); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(packages[0], packages[1]) {
		t.Error("two builds are not the same")
	}
	root := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "-x", filepath.Join(dir, "hapax_0.1.2_amd64.deb"), root).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), "diff", "-r", install(t, l, "/usr"), root).CombinedOutput(); err != nil {
		t.Errorf("the package is not what make install installs: %v\n%s", err, out)
	}
}
