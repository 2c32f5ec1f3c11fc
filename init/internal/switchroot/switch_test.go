package switchroot

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A fakeKernel answers the calls of a switch for an initramfs with everything in place. fail holds the
// errno for a call by the line it has in log.
type fakeKernel struct {
	pid   int
	magic int64
	files map[string]unix.Stat_t // what lstat finds
	fail  map[string]error
	log   []string // calls that change something
	said  []string
}

const (
	initramfs, newRoot, devDev, procDev, sysDev, runDev = 2, 8, 5, 21, 22, 23
)

func newFake() *fakeKernel {
	dir := func(dev uint64) unix.Stat_t { return unix.Stat_t{Mode: unix.S_IFDIR | 0o755, Dev: dev} }
	return &fakeKernel{
		pid:   1,
		magic: unix.RAMFS_MAGIC,
		fail:  map[string]error{},
		files: map[string]unix.Stat_t{
			"/": dir(initramfs), "/init": {Mode: unix.S_IFREG | 0o755, Dev: initramfs},
			"/dev": dir(devDev), "/proc": dir(procDev), "/sys": dir(sysDev), "/run": dir(runDev),
			"/sysroot": dir(newRoot), "/sysroot/dev": dir(newRoot), "/sysroot/proc": dir(newRoot),
			"/sysroot/sys": dir(newRoot), "/sysroot/run": dir(newRoot),
		},
	}
}

func (k *fakeKernel) do(format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	k.log = append(k.log, line)
	return k.fail[line]
}

func (k *fakeKernel) switchTo(t *Target, argv, env []string) error {
	s := &switcher{
		logf: func(format string, args ...any) { k.said = append(k.said, fmt.Sprintf(format, args...)) },
		calls: calls{
			getpid: func() int { return k.pid },
			lstat: func(path string) (unix.Stat_t, error) {
				st, ok := k.files[path]
				if !ok {
					return st, unix.ENOENT
				}
				return st, nil
			},
			fsType:      func(string) (int64, error) { return k.magic, k.fail["statfs"] },
			openDir:     func(path string) (int, error) { return 7, k.do("open %s", path) },
			close:       func(fd int) error { return k.do("close %d", fd) },
			mkdir:       func(path string, mode uint32) error { return k.do("mkdir %s %#o", path, mode) },
			move:        func(from, to string) error { return k.do("move %s %s", from, to) },
			detach:      func(path string) error { return k.do("detach %s", path) },
			chdir:       func(path string) error { return k.do("chdir %s", path) },
			chroot:      func(path string) error { return k.do("chroot %s", path) },
			free:        func(dir int) (freed, error) { return freed{removed: 3}, k.do("free %d", dir) },
			closeOnExec: func() error { return k.do("close on exec") },
			keep:        func(fd int) error { return k.do("keep %d", fd) },
			exec: func(path string, argv, env []string) error {
				return errors.Join(k.do("exec %s %q %q", path, argv, env), unix.ENOEXEC)
			},
		},
	}
	return s.run(t, argv, env)
}

func (k *fakeKernel) run() error {
	return k.switchTo(&Target{Root: "/sysroot", Init: "/sbin/init"}, []string{"init", "single"}, []string{"A=b"})
}

// wholeSwitch is the log of a switch in which nothing goes wrong, up to the exec that never returns.
func wholeSwitch() []string {
	return []string{
		"open /",
		"move /dev /sysroot/dev", "move /proc /sysroot/proc", "move /sys /sysroot/sys", "move /run /sysroot/run",
		"chdir /sysroot", "move . /", "chroot .", "chdir /",
		"free 7", "close on exec", `exec /sbin/init ["init" "single"] ["A=b"]`,
	}
}

func TestSwitchOrder(t *testing.T) {
	t.Parallel()
	for _, magic := range []int64{unix.RAMFS_MAGIC, unix.TMPFS_MAGIC} {
		k := newFake()
		k.magic = magic
		err := k.run()
		var e *Error
		if !errors.As(err, &e) || !e.Committed || !errors.Is(err, unix.ENOEXEC) {
			t.Errorf("error %v, want a committed ENOEXEC of the exec that returned", err)
		}
		if diff := cmp.Diff(wholeSwitch(), k.log); diff != "" {
			t.Errorf("calls differ (-want +got):\n%s", diff)
		}
		if k.said != nil {
			t.Errorf("warnings %q", k.said)
		}
	}
}

// TestSwitchRefuses: where this is no initramfs, nothing at all is called.
func TestSwitchRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, want string
		change     func(*fakeKernel)
	}{
		{"not PID 1", "process 2 is not PID 1", func(k *fakeKernel) { k.pid = 2 }},
		{"root on a disk", "/ is no initramfs: its file system type is 0xef53, neither ramfs nor tmpfs", func(k *fakeKernel) { k.magic = 0xef53 }},
		{"statfs fails", "statfs /: input/output error", func(k *fakeKernel) { k.fail["statfs"] = unix.EIO }},
		{"no /init", "/ is no initramfs: /init: no such file or directory", func(k *fakeKernel) { delete(k.files, "/init") }},
		{"/init is a link", "/ is no initramfs: /init is not a regular file", func(k *fakeKernel) { k.files["/init"] = unix.Stat_t{Mode: unix.S_IFLNK} }},
		{"no new root", "new root /sysroot: no such file or directory", func(k *fakeKernel) { delete(k.files, "/sysroot") }},
		{"nothing mounted", "nothing is mounted on /sysroot", func(k *fakeKernel) { k.files["/sysroot"] = k.files["/"] }},
		{"a file mounted", "nothing is mounted on /sysroot", func(k *fakeKernel) { k.files["/sysroot"] = unix.Stat_t{Mode: unix.S_IFREG, Dev: newRoot} }},
	} {
		k := newFake()
		tt.change(k)
		err := k.run()
		var e *Error
		if !errors.As(err, &e) || e.Committed || err.Error() != "switch root: refused: "+tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
		if k.log != nil {
			t.Errorf("%s: calls %q", tt.name, k.log)
		}
	}
	k := newFake()
	if err := k.switchTo(&Target{Root: "/sysroot", Init: "/sbin/init"}, nil, nil); err == nil || k.log != nil {
		t.Errorf("without arguments: %v, calls %q", err, k.log)
	}
}

// TestSwitchFailures fails each step in turn: before the root is moved all comes back, after it the error
// says that nothing is left.
func TestSwitchFailures(t *testing.T) {
	t.Parallel()
	back := []string{
		"close 7", "chdir /", "move /sysroot/dev /dev", "move /sysroot/proc /proc", "move /sysroot/sys /sys", "move /sysroot/run /run",
	}
	for _, tt := range []struct {
		call, want string
		committed  bool
		after      []string
	}{
		{"open /", "open the old root", false, nil},
		{"chdir /sysroot", "enter /sysroot", false, back},
		{"move . /", "move /sysroot to /", false, back},
		{"chroot .", "chroot", true, nil},
		{"chdir /", "enter the new root", true, nil},
	} {
		k := newFake()
		k.fail[tt.call] = unix.EINVAL
		err := k.run()
		var e *Error
		if !errors.As(err, &e) || e.Committed != tt.committed || e.Step != tt.want || !errors.Is(err, unix.EINVAL) {
			t.Errorf("%s fails: %v (%+v)", tt.call, err, e)
		}
		at := slices.Index(k.log, tt.call)
		if diff := cmp.Diff(tt.after, k.log[at+1:], cmp.Transformer("nil", func(s []string) []string { return append([]string{}, s...) })); diff != "" {
			t.Errorf("%s fails: what follows differs (-want +got):\n%s", tt.call, diff)
		}
	}
}

// TestSwitchGoesOn: what is not needed for the new init to start does not stop it.
func TestSwitchGoesOn(t *testing.T) {
	t.Parallel()
	link := unix.Stat_t{Mode: unix.S_IFLNK | 0o777, Dev: newRoot}
	for _, tt := range []struct {
		name   string
		change func(*fakeKernel)
		calls  []string // have to be there
		said   []string
	}{
		{"a directory is missing", func(k *fakeKernel) { delete(k.files, "/sysroot/run") },
			[]string{"mkdir /sysroot/run 0755", "move /run /sysroot/run"}, nil},
		{"and the root is read-only", func(k *fakeKernel) {
			delete(k.files, "/sysroot/run")
			k.fail["mkdir /sysroot/run 0755"] = unix.EROFS
		}, []string{"detach /run"}, []string{"/run is not handed over to the new root: make directory /sysroot/run: read-only file system"}},
		{"a link in the place of a directory", func(k *fakeKernel) { k.files["/sysroot/run"] = link },
			[]string{"detach /run"}, []string{"/run is not handed over to the new root: /sysroot/run: not a directory"}},
		{"a mount does not move", func(k *fakeKernel) {
			k.fail["move /sys /sysroot/sys"] = unix.EINVAL
			k.fail["detach /sys"] = unix.EINVAL
		}, []string{"detach /sys"}, []string{"/sys is not handed over to the new root: invalid argument", "unmount /sys: invalid argument"}},
		{"not everything is mounted", func(k *fakeKernel) { k.files["/dev"] = k.files["/"] }, nil, nil},
		{"files stay", func(k *fakeKernel) { k.fail["free 7"] = unix.EIO }, nil, []string{"initramfs: 3 files freed, but input/output error"}},
		{"kernel without close_range", func(k *fakeKernel) { k.fail["close on exec"] = unix.ENOSYS }, nil, nil},
		{"close_range fails", func(k *fakeKernel) { k.fail["close on exec"] = unix.ENOMEM }, nil, []string{"close descriptors: cannot allocate memory"}},
	} {
		k := newFake()
		tt.change(k)
		err := k.run()
		if last := k.log[len(k.log)-1]; !strings.HasPrefix(last, "exec /sbin/init") {
			t.Errorf("%s: ends with %s: %v", tt.name, last, err)
		}
		for _, call := range tt.calls {
			if !slices.Contains(k.log, call) {
				t.Errorf("%s: no call %q in %q", tt.name, call, k.log)
			}
		}
		if diff := cmp.Diff(tt.said, k.said); diff != "" {
			t.Errorf("%s: warnings differ (-want +got):\n%s", tt.name, diff)
		}
	}
	k := newFake()
	k.files["/dev"] = k.files["/"]
	_ = k.run()
	if slices.ContainsFunc(k.log, func(call string) bool { return strings.Contains(call, "/dev") }) {
		t.Errorf("/dev is not mounted, but %q", k.log)
	}
}

// TestSwitchInAProcess calls the real thing where it must refuse: here.
func TestSwitchInAProcess(t *testing.T) {
	t.Parallel()
	err := Switch(&Target{Root: t.TempDir(), Init: "/sbin/init"}, []string{"init"}, nil)
	var e *Error
	if !errors.As(err, &e) || e.Committed || !strings.Contains(err.Error(), "is not PID 1") {
		t.Errorf("error %v, want a refusal", err)
	}
}

// What the init is to inherit is kept open after all else was marked, and a failure there does not stop it.
func TestSwitchKeepsDescriptors(t *testing.T) {
	t.Parallel()
	k := newFake()
	k.fail["keep 9"] = unix.EBADF
	_ = k.switchTo(&Target{Root: "/sysroot", Init: "/sbin/init", Inherit: []int{9, 10}}, []string{"init"}, nil)
	want := []string{"close on exec", "keep 9", "keep 10", `exec /sbin/init ["init"] []`}
	if diff := cmp.Diff(want, k.log[len(k.log)-len(want):]); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"keep descriptor 9: bad file descriptor"}, k.said); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}
