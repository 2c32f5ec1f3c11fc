package switchroot

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/tests/need"
)

// roleEnv says what the test binary, started again, is to be: first PID 1 of an initramfs in namespaces of
// its own, then the new init that this executes.
const roleEnv = "SWITCHROOT_TEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch role := os.Getenv(roleEnv); role {
	case "":
		os.Exit(m.Run())
	case "new init":
		err = newInit()
	default:
		err = oldInit(role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// oldInit is PID 1. It builds an initramfs on a tmpfs, a new root on another one, and switches.
func oldInit(role string) error {
	base := os.Getenv("SWITCHROOT_TEST_BASE")
	steps := []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return unix.Mount("initramfs", base, "tmpfs", 0, "") },
		func() error { return buildInitramfs(base) },
		func() error { return buildNewRoot(base+"/sysroot", role) },
		func() error { return unix.Chdir(base) },
		func() error { return unix.Mount(".", "/", "", unix.MS_MOVE, "") },
		func() error { return unix.Chroot(".") },
		func() error { return unix.Chdir("/") },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	// The old root as standard input: what is left of it can be listed after the switch.
	old, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	if err := unix.Dup3(old, 0, 0); err != nil {
		return err
	}
	target, err := Check("/sysroot", "")
	if err != nil {
		return err
	}
	target.Logf = func(format string, args ...any) { fmt.Printf("said "+format+"\n", args...) }
	return Switch(target, []string{"init", "single"}, []string{roleEnv + "=new init", "HOME=/"})
}

// buildInitramfs fills root as the image does, with traps for the freeing of it.
func buildInitramfs(root string) error {
	if err := copyFile("/proc/self/exe", root+"/init"); err != nil {
		return err
	}
	for _, dir := range []string{"dev", "proc", "sys", "run", "sysroot", "lib/modules/6.1/kernel/fs", "mnt/canary", "mnt/bind"} {
		if err := os.MkdirAll(root+"/"+dir, 0o755); err != nil {
			return err
		}
	}
	for i := range 300 {
		if err := os.WriteFile(fmt.Sprintf("%s/lib/modules/6.1/kernel/fs/%d.ko", root, i), []byte("x"), 0o644); err != nil {
			return err
		}
	}
	for path, target := range map[string]string{"link": "/sysroot/canary", "climb": "../../../../sysroot", "mnt/loop": "."} {
		if err := os.Symlink(target, root+"/"+path); err != nil {
			return err
		}
	}
	if err := os.WriteFile(root+"/mnt/file", nil, 0o644); err != nil {
		return err
	}
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
	}{
		{"canary", "mnt/canary", "tmpfs", 0},
		{os.Getenv("SWITCHROOT_TEST_OUTSIDE"), "mnt/bind", "", unix.MS_BIND},
		{os.Getenv("SWITCHROOT_TEST_OUTSIDE") + "/file", "mnt/file", "", unix.MS_BIND},
		{"dev", "dev", "tmpfs", 0},
		{"proc", "proc", "proc", 0},
		{"run", "run", "tmpfs", 0}, // and no /sys: a mount that was never made is not missed
	} {
		if err := unix.Mount(m.source, root+"/"+m.target, m.fstype, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	for _, file := range []string{"mnt/canary/file", "run/boot.json", "dev/marker"} {
		if err := os.WriteFile(root+"/"+file, nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// buildNewRoot mounts and fills the new root as the role has it.
func buildNewRoot(root, role string) error {
	if err := unix.Mount("newroot", root, "tmpfs", 0, ""); err != nil {
		return err
	}
	dirs := []string{"usr/sbin", "canary", "dev", "proc", "run"}
	if role == "read-only" {
		dirs = dirs[:4]
	}
	if role == "bare" {
		dirs = dirs[:2]
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(root+"/"+dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.Symlink("/usr/sbin", root+"/sbin"); err != nil { // absolute, as some distributions have it
		return err
	}
	if err := os.WriteFile(root+"/canary/file", nil, 0o644); err != nil {
		return err
	}
	if err := copyProgram(root, "/usr/sbin/init"); err != nil {
		return err
	}
	switch role {
	case "noexec":
		return unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_NOEXEC, "")
	case "read-only":
		return unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	return nil
}

// copyProgram copies this program into root, with its libraries: built with -race it is a dynamic one.
func copyProgram(root, to string) error {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := readProgram(f)
	if err != nil {
		return err
	}
	files := map[string]string{to: "/proc/self/exe"}
	if p.interpreter != "" {
		files[p.interpreter] = p.interpreter
		maps, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			return err
		}
		for _, word := range strings.Fields(string(maps)) {
			if strings.HasPrefix(word, "/") && strings.Contains(word, ".so") {
				files[word] = word
			}
		}
	}
	for to, from := range files {
		if err := copyFile(from, root+to); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}

// newInit is the init of the new root. It prints what it finds.
func newInit() error {
	fmt.Println("pid", os.Getpid(), "args", os.Args, "env", os.Environ())
	fds, err := os.ReadDir("/proc/self/fd")
	if err == nil {
		var inherited []string
		for _, fd := range fds {
			// The listing itself and Go's poller are this process's own.
			if link, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && !strings.HasPrefix(link, "anon_inode:") && !strings.HasPrefix(link, "/proc/") {
				inherited = append(inherited, fd.Name())
			}
		}
		fmt.Println("descriptors", inherited)
	}
	for _, path := range []string{"/canary/file", "/run/boot.json", "/dev/marker", "/proc/self", "/mnt", "/init"} {
		_, err := os.Stat(path)
		fmt.Println("exists", path, err == nil)
	}
	// What is left of the initramfs, seen from its old root.
	if err := unix.Fchdir(0); err != nil {
		return err
	}
	return filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != "." {
			fmt.Println("left", path)
		}
		return err
	})
}

// switchInNamespace runs a switch in namespaces of its own and returns what the old and the new init print.
func switchInNamespace(t *testing.T, role string) (stdout, stderr string, err error) {
	t.Helper()
	need.Root(t)
	outside := plant(t, map[string]string{"file": "x", "sub/file": "x"})
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role, "SWITCHROOT_TEST_BASE="+t.TempDir(), "SWITCHROOT_TEST_OUTSIDE="+outside)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if errors.Is(err, unix.EPERM) {
		need.Unmet(t, "this machine does not let root make namespaces: %v", err)
	}
	for _, file := range []string{"file", "sub/file"} {
		if _, err := os.Stat(filepath.Join(outside, file)); err != nil {
			t.Errorf("a file behind a bind mount: %v", err)
		}
	}
	return out.String(), errs.String(), err
}

func TestSwitchReally(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		role, said string
		run, dev   bool // handed over
	}{
		{role: "plain", run: true, dev: true},
		{role: "bare", run: true, dev: true},
		{role: "read-only", dev: true, said: "said /run is not handed over to the new root: make directory /sysroot/run: read-only file system\n"},
	} {
		t.Run(tt.role, func(t *testing.T) {
			t.Parallel()
			// Mounts, and the directories above them, are all that is left of the initramfs.
			want := tt.said + fmt.Sprintf(`pid 1 args [init single] env [%s=new init HOME=/]
descriptors [0 1 2]
exists /canary/file true
exists /run/boot.json %v
exists /dev/marker %v
exists /proc/self true
exists /mnt false
exists /init false
left mnt
left mnt/bind
left mnt/bind/file
left mnt/bind/sub
left mnt/bind/sub/file
left mnt/canary
left mnt/canary/file
left mnt/file
`, roleEnv, tt.run, tt.dev)
			stdout, stderr, err := switchInNamespace(t, tt.role)
			if err != nil {
				t.Fatalf("child: %v\n%s%s", err, stdout, stderr)
			}
			if diff := cmp.Diff(want, stdout); diff != "" {
				t.Errorf("the new init's findings differ (-want +got):\n%s%s", diff, stderr)
			}
		})
	}
}

// TestCheckNoexecReally: the one cause that needs a mount to be shown.
func TestCheckNoexecReally(t *testing.T) {
	t.Parallel()
	stdout, stderr, err := switchInNamespace(t, "noexec")
	if err == nil || !strings.Contains(stderr, "/sbin/init: on a file system that is mounted noexec; take noexec out of rootflags=") {
		t.Errorf("child: %v\n%s%s", err, stdout, stderr)
	}
}
