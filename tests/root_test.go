package tests

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// rootUUID is that of every root file system here; each guest has one.
const rootUUID = "6d1c2b5e-3d0c-4d0e-9a53-8f6c58a0c1f7"

// rootDisk makes a root file system for one guest; without fill its /sbin/init is the guest program.
func rootDisk(t testing.TB, l *lab.Lab, fill func(root string) error) lab.Disk {
	t.Helper()
	d, err := l.RootDisk(t.Context(), filepath.Join(t.TempDir(), "root.img"), rootUUID, fill)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestRoot boots the universal image into an ext4 root named by its UUID.
func TestRoot(t *testing.T) {
	eachKernel(t, func(t *testing.T, l *lab.Lab, spec lab.KernelSpec, k debian.Kernel) {
		image, err := l.HapaxImage(t.Context(), k, "--mode", "universal")
		if err != nil {
			t.Fatal(err)
		}
		v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
			Kernel: k.Vmlinuz, Initrd: image, CPUs: 2, Disks: []string{rootDisk(t, l, nil).File},
			Append: bootArgs + "root=UUID=" + rootUUID + " hapax.report=console some.key=1 word key=value -- argument",
		}})
		var start guest.Start
		if err := guest.Await(v, time.Minute, "start", &start); err != nil {
			t.Fatal(err)
		}
		// As the kernel would: what nobody knows is for init, but for parameters of modules.
		if got := strings.Join(start.Args, " "); got != "/sbin/init word argument" {
			t.Errorf("init was started as %q, want /sbin/init word argument", got)
		}
		if env := slices.Sorted(slices.Values(start.Env)); !slices.Equal(env, []string{"HOME=/", "TERM=linux", "key=value"}) {
			t.Errorf("the environment of init is %q, want the kernel's own and key=value", env)
		}
		c := client(t, v, time.Minute)
		if s := ask[string](t, c, guest.Cat, "/proc/1/status"); !strings.Contains(s, "THP_enabled:\t1\n") {
			t.Errorf("the real init may not have huge pages, as PID 1 of the initramfs does not want them:\n%s", s)
		}
		checkMounts(t, ask[string](t, c, guest.Cat, "/proc/mounts"))
		r := ask[report](t, c, guest.Report, "")
		if r.Duplicates != 0 || r.Failed != 0 || r.Finit != r.Live+r.Refused {
			t.Errorf("report: %+v", r)
		}
		if r.Root == nil || r.Root.Device != "/dev/vda" || r.Root.Type != "ext4" || r.Root.UUID != rootUUID {
			t.Errorf("report: root %+v, want ext4 %s on /dev/vda", r.Root, rootUUID)
		}
		t.Logf("%s: %s at %.2f s of guest time, root mounted at %.2f s; %d finit_module calls", k.Release,
			start.Args[0], start.Clock.Seconds(), r.Clock.Mounted/1000, r.Finit)
		if err := v.Send(guest.PowerOff); err != nil {
			t.Fatal(err)
		}
		if err := v.WaitExit(time.Minute); err != nil {
			t.Errorf("power-off: %v", err)
		}
	})
}

// checkMounts looks for the root, read-only as without rw, and for the mounts that the initramfs hands over.
func checkMounts(t *testing.T, mounts string) {
	t.Helper()
	kinds := map[string]string{}
	for line := range strings.Lines(mounts) {
		if f := strings.Fields(line); len(f) >= 4 {
			kinds[f[1]] = f[2] // the last mount on a folder hides those before
			if f[1] == "/" && f[2] == "ext4" && !strings.HasPrefix(f[3]+",", "ro,") {
				t.Errorf("the root is mounted with %s, want ro", f[3])
			}
		}
	}
	for dir, kind := range map[string]string{"/": "ext4", "/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs", "/run": "tmpfs"} {
		if kinds[dir] != kind {
			t.Errorf("%s is %q, want %s", dir, kinds[dir], kind)
		}
	}
}

// script writes an executable script.
func script(path, interpreter string) error {
	return os.WriteFile(path, []byte("#!"+interpreter+"\n"), 0o755)
}
