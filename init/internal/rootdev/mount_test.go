package rootdev

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"hapax/tests/need"
)

// mountEnv tells the test binary, started again in a mount namespace of its own, what to mount: source,
// target, type, options and "rw" or "ro", one a line.
const mountEnv = "ROOTDEV_TEST_MOUNT"

func TestMain(m *testing.M) {
	if spec := os.Getenv(mountEnv); spec != "" {
		if err := mountAndTell(strings.Split(spec, "\n")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func mountAndTell(spec []string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := Mount(spec[0], spec[1], spec[2], spec[3], spec[4] == "rw"); err != nil {
		return err
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(info)) {
		if f := strings.Fields(line); f[4] == spec[1] {
			fmt.Println(f[5], f[len(f)-3], f[len(f)-1])
		}
	}
	return nil
}

// loop makes a block device of image.
func loop(t *testing.T, image string, options ...string) string {
	t.Helper()
	need.Tools(t, "losetup")
	out, err := exec.Command("losetup", append(options, "--find", "--show", image)...).CombinedOutput()
	if err != nil {
		need.Unmet(t, "needs loop devices: losetup: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup --detach %s: %v\n%s", device, err, out)
		}
	})
	return device
}

// TestMountReally mounts an image by way of the kernel, the tests above by way of a fake.
func TestMountReally(t *testing.T) {
	need.Root(t)
	image := mkfs(t, 8<<10, "mkfs.ext4")
	writable, protected := loop(t, image), loop(t, mkfs(t, 8<<10, "mkfs.ext4"), "--read-only")
	for _, tt := range []struct {
		name, device, fstype, options, access string
		want                                  []string // words of the output, errors included
	}{
		{"read-only", writable, "ext4", "", "ro", []string{"ro,relatime ext4"}},
		{"read-write", writable, "ext4", "", "rw", []string{"rw,relatime ext4"}},
		{"options", writable, "ext4", "nodev,noatime,errors=panic", "rw", []string{"rw,nodev,noatime ext4", "errors=panic"}},
		{"options outrank the word", writable, "ext4", "ro", "rw", []string{"ro,relatime ext4"}},
		{"list of types", writable, "nosuchfs,ext4", "", "ro", []string{"ro,relatime ext4"}},
		{"unknown type", writable, "nosuchfs", "", "ro", []string{"as nosuchfs: no such device: the kernel does not know this file system"}},
		{"bad option", writable, "ext4", "frobnicate", "ro", []string{"invalid argument", `bad option in "frobnicate"`}},
		{"write-protected", protected, "ext4", "", "rw", []string{"write-protected; boot with ro instead of rw"}},
		{"write-protected, read-only", protected, "ext4", "", "ro", []string{"ro,relatime ext4"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target := t.TempDir()
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), mountEnv+"="+strings.Join([]string{tt.device, target, tt.fstype, tt.options, tt.access}, "\n"))
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			err := cmd.Run()
			if errors.Is(err, unix.EPERM) {
				need.Unmet(t, "this machine does not let root make a mount namespace: %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("got %s(%v), want %q", out.Bytes(), err, want)
				}
			}
		})
	}
}

// TestFinderReally offers real block devices: what Probe reads through a descriptor is what mkfs wrote.
func TestFinderReally(t *testing.T) {
	need.Root(t)
	const uuid = "abcdef01-2345-6789-abcd-ef0123456789"
	name := strings.TrimPrefix(loop(t, mkfs(t, 8<<10, "mkfs.ext4", "-U", uuid)), "/dev/")
	f := New(mustRef(t, "UUID="+strings.ToUpper(uuid)), nil)
	match, err := f.Offer(named(name), func() (io.ReaderAt, int64, error) {
		dev, err := os.Open("/dev/" + name)
		if err != nil {
			return nil, 0, err
		}
		size, err := dev.Seek(0, io.SeekEnd)
		return dev, size, err
	})
	if !match || err != nil {
		t.Errorf("Offer = %v, %v", match, err)
	}
	if root, ok := f.Root(); !ok || root.Size != 8<<20 || root.Type != "ext4" {
		t.Errorf("root %v, %v", root, ok)
	}
}
