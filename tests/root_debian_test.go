package tests

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// TestDebian boots a real Debian to its login prompt, and logs in. In six boots it has each init system, each file system,
// five of the controllers and six of the ways to name the root; the first three, with each init system, are enough for CI.
// PARTNROFF, by-id, device numbers, gpt-auto, USB, SD cards and megasas are left to TestDebianPairs.
func TestDebian(t *testing.T) {
	l := needQEMU(t)
	for i, name := range []string{
		"systemd-sysv,ext4,virtio-blk,UUID",
		"sysvinit-core,btrfs,nvme,PARTUUID",
		"runit-init,squashfs,4Kn,dev",
		"runit-init,xfs,virtio-scsi,LABEL",
		"sysvinit-core,f2fs,ahci,PARTLABEL",
		"runit-init,erofs,virtio-blk,by-path",
	} {
		c := namedCase(t, name)
		t.Run(name, func(t *testing.T) {
			if i >= 3 {
				need.Time(t)
			}
			t.Parallel() // each guest has one processor
			bootDebian(t, l, c)
		})
	}
}

// TestDebianPairs boots Debian so often, 78 times, that each two of an init system, a file system, a controller and a way to
// name the root come together once.
func TestDebianPairs(t *testing.T) {
	need.Time(t)
	l := needQEMU(t)
	for _, row := range pairwise(debianDimensions()) {
		c := debianRow(row)
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			bootDebian(t, l, c)
		})
	}
}

// bootDebian boots into a root and asks it how it went.
func bootDebian(t *testing.T, l *lab.Lab, c debianCase) {
	k := c.kernel(t, l)
	image, err := l.HapaxImage(t.Context(), k, "--mode", "universal")
	if err != nil {
		t.Fatal(err)
	}
	f := login(t, l, "", c.machine(t, l, k, image, c.arguments(c.hapaxRoot())))
	f.same(t, "init", map[string]string{"systemd-sysv": "systemd", "sysvinit-core": "init", "runit-init": "runit"}[c.init])
	fstype, device := c.fs.Name, "/dev/"+c.disk+c.part+"2"
	if c.fs.Overlay {
		fstype, device = "overlay", "overlay"
	}
	f.same(t, "device", device)
	f.matches(t, "root", "^"+fstype+" rw,")
	if c.fs.Name == "btrfs" {
		f.matches(t, "root", "subvol=/"+lab.DebianSubvolume+"$")
	}
	f.matches(t, "dmesg", "hapax: .*root /dev/"+c.disk+c.part+"2 .*mounted")
	f.holds(t, "link", "by-id/"+c.id+"-part2") // by the udev that runs there
	if c.path != "" {
		f.holds(t, "link", "by-path/"+c.path+"-part2")
	}
	switch c.init {
	case "systemd-sysv":
		f.matches(t, "analyze", `\(kernel\) \+ .*\(initrd\) \+ .*\(userspace\)`)
		f.matches(t, "log", "root /dev/"+c.disk+c.part+"2 .*mounted")
		if failed := f["failed"]; len(failed) > 0 {
			checkFailed(t, failed, failedUnits(t, l, c))
		}
	case "sysvinit-core":
		f.same(t, "state", "runlevel N 2")
	case "runit-init":
		f.matches(t, "state", "^run: getty-ttyS0: ")
	}
	t.Logf("%s: %s", f["root"], strings.Join(append(f["state"], f["analyze"]...), "; "))
}

// facts are the lines that a root of the lab prints, by their first word.
type facts map[string][]string

var factLine = regexp.MustCompile(`^fact (\w+) ?(.*)$`)

// login boots a machine until Debian asks for a name, gives that of root, and returns what is printed then.
func login(t *testing.T, l *lab.Lab, name string, m qemu.Machine) facts {
	t.Helper()
	return loginTo(t, vm.Run(t, l.Logs(), vm.Config{Name: name, Machine: m, Limit: 12 * time.Minute}))
}

// loginTo is login to a machine that runs. Its shell takes commands then.
func loginTo(t *testing.T, v *vm.VM) facts {
	t.Helper()
	if _, err := v.WaitLine(10*time.Minute, "Debian GNU/Linux 12 hapax ttyS0"); err != nil {
		t.Fatal(err)
	}
	say(t, v, "root", "fact begin")
	f := facts{}
	for {
		line, err := v.WaitMatch(time.Minute, factLine)
		if err != nil {
			t.Fatal(err)
		}
		if line[1] == "end" {
			return f
		}
		f[line[1]] = append(f[line[1]], line[2])
	}
}

func (f facts) same(t *testing.T, key, want string) {
	t.Helper()
	if got := f[key]; len(got) != 1 || got[0] != want {
		t.Errorf("%s: %q, want %q", key, got, want)
	}
}

func (f facts) holds(t *testing.T, key, want string) {
	t.Helper()
	if !slices.Contains(f[key], want) {
		t.Errorf("%s: %q, want %q among them", key, f[key], want)
	}
}

// matches looks for a line that fits.
func (f facts) matches(t *testing.T, key, pattern string) {
	t.Helper()
	if re := regexp.MustCompile(pattern); !slices.ContainsFunc(f[key], re.MatchString) {
		t.Errorf("%s: %q, want a line with %s", key, f[key], pattern)
	}
}

// oracles keeps the failed units of the roots that Debian's own initramfs has booted, by init and file system.
var oracles sync.Map

// failedUnits boots the same root by the initramfs of Debian's initramfs-tools and returns the units that fail then.
func failedUnits(t *testing.T, l *lab.Lab, c debianCase) []string {
	t.Helper()
	key := c.init + "," + c.fs.Name
	if failed, ok := oracles.Load(key); ok {
		return failed.([]string)
	}
	k := c.kernel(t, l)
	image, err := l.DebianImage(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	args := c.arguments("PARTUUID=" + rootPartUUID)
	if c.fs.Overlay {
		args += " testoverlay"
	}
	failed := login(t, l, "initramfs-tools", c.machine(t, l, k, image, args))["failed"]
	t.Logf("by initramfs-tools, %s has the failed units %q", key, failed)
	oracles.Store(key, failed)
	return failed
}

// checkFailed tells which units fail with hapax alone.
func checkFailed(t *testing.T, failed, oracle []string) {
	t.Helper()
	for _, unit := range failed {
		if !slices.Contains(oracle, unit) {
			t.Errorf("%s has failed, and does not with Debian's initramfs", unit)
		}
	}
}
