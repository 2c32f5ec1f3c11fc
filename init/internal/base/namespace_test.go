package base

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/mnt"
	"hapax/tests/need"
)

// rootEnv has the test binary set up a real system on this folder, in namespaces of its own.
const rootEnv = "BASE_TEST_ROOT"

func TestMain(m *testing.M) {
	if root := os.Getenv(rootEnv); root != "" {
		if err := child(root); err != nil {
			fmt.Println("child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child makes a root of a fresh tmpfs, sets it up by the real calls and prints what it looks like. Control groups and the clock
// have no namespace that would keep them from this machine's, so these are left alone.
func child(root string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("root", root, "tmpfs", 0, ""); err != nil {
		return err
	}
	if err := errors.Join(unix.Chroot(root), unix.Chdir("/")); err != nil {
		return err
	}
	unix.Umask(0o022)
	if err := errors.Join(mnt.Apply(mnt.Kernel(), "", mnt.Early())...); err != nil {
		return err
	}
	err := errors.Join(os.MkdirAll("/etc/sysctl.d", 0o755), os.MkdirAll("/var/lib/hapax", 0o755),
		os.WriteFile("/etc/hostname", []byte("within\n"), 0o644),
		os.WriteFile("/etc/sysctl.d/a.conf", []byte("net.ipv4.ip_default_ttl = 33\n"), 0o644))
	if err != nil {
		return err
	}
	s := Live(cmdline.Parse("systemd.machine_id=123456789abcdef0123456789abcdef0"))
	s.Mounts.Mount = func(source, target, fstype string, flags uintptr, data string) error {
		if fstype == "cgroup2" {
			return nil
		}
		return unix.Mount(source, target, fstype, flags, data)
	}
	s.Now = func() time.Time { return s.built() }
	if err := errors.Join(s.Setup()...); err != nil {
		return err
	}
	return show()
}

// show prints what a program of the new system would see.
func show() error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return err
	}
	ttl, err := os.ReadFile("/proc/sys/net/ipv4/ip_default_ttl")
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Printf("name %s\nid %sttl %s", name, id, ttl)
	fmt.Printf("id can be written: %v\n", os.WriteFile("/etc/machine-id", nil, 0o644) == nil)
	seed, err := os.Stat(seedFile)
	if err != nil {
		return err
	}
	fmt.Printf("seed %d bytes %v\n", seed.Size(), seed.Mode())
	for _, dir := range []string{"/tmp", "/dev/shm", "/dev/pts"} {
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil {
			return err
		}
		fmt.Printf("%s %#x\n", dir, fs.Type)
	}
	return nil
}

func TestSetupReally(t *testing.T) {
	t.Parallel()
	need.Root(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), rootEnv+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) {
		need.Unmet(t, "this machine does not let root make namespaces: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := fmt.Sprintf(`name within
id 123456789abcdef0123456789abcdef0
ttl 33
id can be written: false
seed 32 bytes -rw-------
/tmp %#x
/dev/shm %#x
/dev/pts %#x
`, unix.TMPFS_MAGIC, unix.TMPFS_MAGIC, unix.DEVPTS_SUPER_MAGIC)
	if diff := cmp.Diff(want, strings.ReplaceAll(string(out), "\r", "")); diff != "" {
		t.Errorf("the system (-want +got):\n%s", diff)
	}
}
