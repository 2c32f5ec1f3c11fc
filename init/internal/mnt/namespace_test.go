package mnt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/tests/need"
)

// childEnv tells the test binary, started again in a mount namespace of its own, what to do there.
const childEnv = "MNT_TEST_CHILD"

func TestMain(m *testing.M) {
	if plan := os.Getenv(childEnv); plan != "" {
		if err := child(plan); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child applies a plan below a fresh tmpfs and prints what is mounted there, and what else is to be seen.
func child(plan string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root := os.Getenv("MNT_TEST_ROOT")
	if err := unix.Mount("root", root, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	unix.Umask(0o022)
	var steps []Step
	switch plan {
	case "early":
		steps = append(Early(), Shell()...)
	case "standalone":
		if errs := Apply(Kernel(), root, Early()); errs != nil { // it makes the directories that are asked about
			return errors.Join(errs...)
		}
		steps = slices.Concat(Shell(), Standalone(func(dir string) bool { return isDir(root + dir) }))
	case "twice":
		// sysfs and devtmpfs exist once, so the kernel refuses a second mount in the same place with EBUSY.
		steps = append(Early()[2:6:6], Early()[2:6]...)
	case "static":
		steps = append([]Step{Dir{"/dev", 0o755}, Dir{"/proc", 0o755}}, staticDev()...)
	}
	if errs := Apply(Kernel(), root, steps); errs != nil {
		return errors.Join(errs...)
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(info)) {
		// id parent devno root target options [tags...] - type source superoptions
		f := strings.Fields(line)
		target, below := strings.CutPrefix(f[4], root+"/")
		if !below {
			continue
		}
		fs := f[len(f)-3:]
		fmt.Printf("%s on /%s source %s options %s mode=%o\n", fs[0], target, fs[1], f[5], mode(f[4]))
	}
	for _, node := range []string{"console", "null", "kmsg", "random"} {
		var st unix.Stat_t
		if err := unix.Lstat(root+"/dev/"+node, &st); err == nil {
			fmt.Printf("node %s %d:%d %#o\n", node, unix.Major(st.Rdev), unix.Minor(st.Rdev), st.Mode&^unix.S_IFMT)
		}
	}
	return nil
}

func isDir(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

func mode(path string) uint32 {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0
	}
	return st.Mode & 0o7777
}

// inNamespace runs plan in a child and returns what it printed.
func inNamespace(t *testing.T, plan string) string {
	t.Helper()
	need.Root(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+plan, "MNT_TEST_ROOT="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if errors.Is(err, unix.EPERM) {
		need.Unmet(t, "this machine does not let root make a mount namespace: %v", err)
	}
	if err != nil {
		t.Fatalf("child: %v\n%s%s", err, out, stderr.Bytes())
	}
	return string(out)
}

func TestEarlyReally(t *testing.T) {
	t.Parallel()
	const want = `proc on /proc source proc options rw,nosuid,nodev,noexec,relatime mode=555
sysfs on /sys source sysfs options rw,nosuid,nodev,noexec,relatime mode=555
devtmpfs on /dev source devtmpfs options rw,nosuid mode=755
tmpfs on /run source tmpfs options rw,nosuid,nodev mode=755
devpts on /dev/pts source devpts options rw,nosuid,noexec,relatime mode=755
tmpfs on /dev/shm source tmpfs options rw,nosuid,nodev mode=1777
`
	got, _, _ := strings.Cut(inNamespace(t, "early"), "node ")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mountinfo differs (-want +got):\n%s", diff)
	}
}

// TestStandaloneReally mounts what every kernel has of the plan; which of the others are there is this machine's business.
func TestStandaloneReally(t *testing.T) {
	t.Parallel()
	got := inNamespace(t, "standalone")
	for _, want := range []string{
		"tmpfs on /tmp source tmpfs options rw,nosuid,nodev mode=1777\n",
		"cgroup2 on /sys/fs/cgroup source cgroup2 options rw,nosuid,nodev,noexec,relatime mode=555\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("mountinfo lacks %q:\n%s", want, got)
		}
	}
}

func TestEarlyTwiceReally(t *testing.T) {
	t.Parallel()
	got := inNamespace(t, "twice")
	if n := strings.Count(got, " on /"); n != 2 {
		t.Errorf("%d mounts after two runs of sysfs and devtmpfs, want 2:\n%s", n, got)
	}
}

func TestStaticDevReally(t *testing.T) {
	t.Parallel()
	const want = `tmpfs on /dev source dev options rw,nosuid mode=755
node console 5:1 0600
node null 1:3 0666
node kmsg 1:11 0644
node random 1:8 0666
`
	if diff := cmp.Diff(want, inNamespace(t, "static")); diff != "" {
		t.Errorf("/dev differs (-want +got):\n%s", diff)
	}
}
