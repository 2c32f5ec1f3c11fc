package mnt

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// record returns a System that writes each call into log and answers with the errno that fail holds for it.
func record(log *[]string, fail map[string]error) System {
	call := func(format string, args ...any) error {
		line := fmt.Sprintf(format, args...)
		*log = append(*log, line)
		return fail[line]
	}
	return System{
		Mkdir: func(path string, mode uint32) error { return call("mkdir %s %o", path, mode) },
		Mount: func(source, target, fstype string, flags uintptr, data string) error {
			return call("mount %s %s %s %#x %q", source, target, fstype, flags, data)
		},
		Mknod: func(path string, mode uint32, dev int) error {
			return call("mknod %s %o %d:%d", path, mode, unix.Major(uint64(dev)), unix.Minor(uint64(dev)))
		},
		Chmod:   func(path string, mode uint32) error { return call("chmod %s %o", path, mode) },
		Symlink: func(target, path string) error { return call("symlink %s %s", target, path) },
	}
}

// TestEarlyIsReadable holds the plan as people see it: a change of the plan shows up here, in words.
func TestEarlyIsReadable(t *testing.T) {
	t.Parallel()
	const want = `mkdir /proc 0755
mount proc on /proc (nosuid,nodev,noexec)
mkdir /sys 0755
mount sysfs on /sys (nosuid,nodev,noexec)
mkdir /dev 0755
mount devtmpfs on /dev (nosuid,strictatime,mode=0755)
mkdir /run 0755
mount tmpfs on /run (nosuid,nodev,strictatime,mode=0755,size=20%,nr_inodes=800k)
symlink /dev/fd -> /proc/self/fd
symlink /dev/stdin -> /proc/self/fd/0
symlink /dev/stdout -> /proc/self/fd/1
symlink /dev/stderr -> /proc/self/fd/2
mount securityfs on /sys/kernel/security (nosuid,nodev,noexec)
mount tracefs on /sys/kernel/tracing (nosuid,nodev,noexec)
mkdir /dev/pts 0755
mount devpts on /dev/pts (nosuid,noexec,mode=0620,gid=5)
mkdir /dev/shm 01777
mount tmpfs on /dev/shm (nosuid,nodev,strictatime,mode=1777)
mkdir /tmp 01777
mount tmpfs on /tmp (nosuid,nodev,strictatime,mode=1777,size=50%,nr_inodes=1m)
mount securityfs on /sys/kernel/security (nosuid,nodev,noexec)
mount cgroup2 on /sys/fs/cgroup (nosuid,nodev,noexec,nsdelegate,memory_recursiveprot)
mount efivarfs on /sys/firmware/efi/efivars (nosuid,nodev,noexec)
mount bpf on /sys/fs/bpf (nosuid,nodev,noexec,mode=700)
mount tracefs on /sys/kernel/tracing (nosuid,nodev,noexec)
`
	var got strings.Builder
	all := func(string) bool { return true }
	for _, step := range slices.Concat(Early(), Security(), Tracing(), Shell(), Standalone(all)) {
		fmt.Fprintln(&got, step)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("plan differs (-want +got):\n%s", diff)
	}
}

func TestApplyCalls(t *testing.T) {
	t.Parallel()
	plan := []Step{
		Dir{"/d", 0o755},
		Mount{Source: "src", Target: "/d", FSType: "tmpfs", Flags: NoSuid | NoDev, Data: "mode=0755"},
		Node{"/d/null", 0o666, 1, 3},
		Symlink{"/d/fd", "/proc/self/fd"},
	}
	for _, root := range []string{"", "/", "/new", "/new/"} {
		prefix := strings.TrimSuffix(root, "/")
		var log []string
		if errs := Apply(record(&log, nil), root, plan); errs != nil {
			t.Errorf("Apply(%q): %v", root, errs)
		}
		want := []string{
			"mkdir " + prefix + "/d 755",
			"mount src " + prefix + `/d tmpfs 0x6 "mode=0755"`,
			"mknod " + prefix + "/d/null 20666 1:3",
			"chmod " + prefix + "/d/null 666",
			"symlink /proc/self/fd " + prefix + "/d/fd",
		}
		if diff := cmp.Diff(want, log); diff != "" {
			t.Errorf("Apply(%q): calls differ (-want +got):\n%s", root, diff)
		}
	}
}

func TestApplyToleratesWhatIsThere(t *testing.T) {
	t.Parallel()
	var log []string
	sys := record(&log, map[string]error{
		"mkdir /d 755":             unix.EEXIST,
		`mount s /d tmpfs 0x0 ""`:  unix.EBUSY,
		"mknod /d/null 20666 1:3":  unix.EEXIST,
		"symlink /proc/self/fd /l": fmt.Errorf("wrapped: %w", unix.EEXIST),
	})
	errs := Apply(sys, "", []Step{
		Dir{"/d", 0o755}, Mount{Source: "s", Target: "/d", FSType: "tmpfs"}, Node{"/d/null", 0o666, 1, 3}, Symlink{"/l", "/proc/self/fd"},
	})
	if errs != nil {
		t.Errorf("errors %v, want none", errs)
	}
	if len(log) != 4 { // in particular no chmod of a node that somebody else made
		t.Errorf("calls %q, want 4", log)
	}
}

// TestApplyGoesOn checks that each failure is told, with its meaning, and that the rest is done.
func TestApplyGoesOn(t *testing.T) {
	t.Parallel()
	var log []string
	sys := record(&log, map[string]error{
		"mkdir /a 755":              unix.EROFS,
		`mount s /a tmpfs 0x0 ""`:   unix.ENOENT,
		`mount s /b strange 0x0 ""`: unix.ENODEV,
		"mknod /n 20600 1:3":        unix.EPERM,
		"chmod /m 600":              unix.EIO,
	})
	errs := Apply(sys, "", []Step{
		Dir{"/a", 0o755},
		Mount{Source: "s", Target: "/a", FSType: "tmpfs"},
		Mount{Source: "s", Target: "/b", FSType: "strange", Needs: "CONFIG_STRANGE"},
		Node{"/n", 0o600, 1, 3},
		Node{"/m", 0o600, 1, 3},
		Symlink{"/l", "x"},
	})
	want := []string{
		"mkdir /a 0755: read-only file system: the root file system cannot be written to",
		"mount tmpfs on /a (): no such file or directory: the image has no directory /a",
		"mount strange on /b (): no such device: the kernel lacks CONFIG_STRANGE",
		"mknod /n c 1:3 0600: operation not permitted: not run as PID 1 with all capabilities",
		"mknod /m c 1:3 0600: input/output error",
	}
	if diff := cmp.Diff(want, texts(errs)); diff != "" {
		t.Errorf("errors differ (-want +got):\n%s", diff)
	}
	if last := log[len(log)-1]; last != "symlink x /l" {
		t.Errorf("the last call is %q: the plan was not finished", last)
	}
	var step *StepError
	if !errors.As(errs[0], &step) || !errors.Is(errs[0], unix.EROFS) {
		t.Errorf("%#v is no *StepError over EROFS", errs[0])
	}
}

func TestApplyWithoutDevtmpfs(t *testing.T) {
	t.Parallel()
	var log []string
	sys := record(&log, map[string]error{
		`mount devtmpfs /r/dev devtmpfs 0x1000002 "mode=0755"`: unix.ENODEV,
		"mknod /r/dev/tty 20666 5:0":                           unix.ENOSPC,
	})
	errs := Apply(sys, "/r", Early())
	want := []string{
		"mount devtmpfs on /dev (nosuid,strictatime,mode=0755): no such device: " +
			"the kernel lacks CONFIG_DEVTMPFS; continuing with a small static /dev",
		"mknod /dev/tty c 5:0 0666: no space left on device",
	}
	if diff := cmp.Diff(want, texts(errs)); diff != "" {
		t.Errorf("errors differ (-want +got):\n%s", diff)
	}
	calls := strings.Join(log, "\n")
	for _, call := range []string{
		`mount dev /r/dev tmpfs 0x1000002 "mode=0755"`,
		"mknod /r/dev/console 20600 5:1", "mknod /r/dev/null 20666 1:3", "mknod /r/dev/kmsg 20644 1:11",
		"chmod /r/dev/null 666", "symlink /proc/self/fd /r/dev/fd",
	} {
		if !strings.Contains(calls, call) {
			t.Errorf("no call %q in\n%s", call, calls)
		}
	}
}

// TestNoFallbackOnOtherErrors: only ENODEV says that the file system is unknown.
func TestNoFallbackOnOtherErrors(t *testing.T) {
	t.Parallel()
	var log []string
	sys := record(&log, map[string]error{`mount devtmpfs /dev devtmpfs 0x1000002 "mode=0755"`: unix.EPERM})
	errs := Apply(sys, "", Early())
	if len(errs) != 1 || !errors.Is(errs[0], unix.EPERM) {
		t.Errorf("errors %v, want one EPERM", errs)
	}
	for _, call := range log {
		if strings.HasPrefix(call, "mknod") {
			t.Errorf("unexpected %s", call)
		}
	}
}

func texts(errs []error) []string {
	var s []string
	for _, err := range errs {
		s = append(s, err.Error())
	}
	return s
}

// TestStandaloneByNeed leaves out what the kernel has no directory for.
func TestStandaloneByNeed(t *testing.T) {
	t.Parallel()
	var got []string
	for _, step := range Standalone(func(dir string) bool { return dir == CgroupDir }) {
		if m, ok := step.(Mount); ok {
			got = append(got, m.Target)
		}
	}
	if diff := cmp.Diff([]string{"/tmp", CgroupDir}, got); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
}
