package switchroot

import (
	"errors"
	"fmt"
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// An Error says at which step Switch failed.
type Error struct {
	Step string
	Err  error
	// Committed says that the old root can no longer be reached: only a reboot is left. Otherwise nothing
	// was freed, the mounts that were handed over are back, and a rescue shell works.
	Committed bool
}

func (e *Error) Error() string { return fmt.Sprintf("switch root: %s: %v", e.Step, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// movedMounts returns what is handed over, as systemd.io/INITRD_INTERFACE has it.
func movedMounts() []string { return []string{"/dev", "/proc", "/sys", "/run"} }

// Switch makes t.Root the root and executes t.Init with argv, argv[0] included, and env. It has to be
// called by PID 1 in an initramfs, by which it means that "/" is a ramfs or tmpfs and holds a file /init,
// with no other process left that matters. It returns only on failure, with an *Error.
//
// Order is what makes failures harmless: first all checks, then the mounts, which can be moved back, then
// the root. The initramfs is freed last, just before execve, through a descriptor of the old root.
// All descriptors but 0, 1, 2 and t.Inherit are closed by the execve.
func Switch(t *Target, argv, env []string) error {
	logf := t.Logf
	if logf == nil {
		logf = func(string, ...any) {}
	}
	s := &switcher{calls: kernelCalls(), logf: logf}
	return s.run(t, argv, env)
}

// calls are the effects of a switch. Tests replace them.
type calls struct {
	getpid      func() int
	lstat       func(path string) (unix.Stat_t, error)
	fsType      func(path string) (int64, error) // f_type of statfs(2)
	openDir     func(path string) (int, error)
	close       func(fd int) error
	mkdir       func(path string, mode uint32) error
	move        func(from, to string) error
	detach      func(path string) error
	chdir       func(path string) error
	chroot      func(path string) error
	free        func(dir int) (freed, error) // closes dir
	closeOnExec func() error                 // marks all descriptors from 3 on
	keep        func(fd int) error           // takes the mark off one
	exec        func(path string, argv, env []string) error
}

func kernelCalls() calls {
	return calls{
		getpid: unix.Getpid,
		lstat: func(path string) (st unix.Stat_t, err error) {
			err = unix.Lstat(path, &st)
			return st, err
		},
		fsType: func(path string) (int64, error) {
			var st unix.Statfs_t
			err := unix.Statfs(path, &st)
			return int64(st.Type), err
		},
		openDir: func(path string) (int, error) {
			return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		},
		close:       unix.Close,
		mkdir:       unix.Mkdir,
		move:        func(from, to string) error { return unix.Mount(from, to, "", unix.MS_MOVE, "") },
		detach:      func(path string) error { return unix.Unmount(path, unix.MNT_DETACH) },
		chdir:       unix.Chdir,
		chroot:      unix.Chroot,
		free:        freeTree,
		closeOnExec: func() error { return unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) },
		keep: func(fd int) error {
			_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
			return err
		},
		exec: syscall.Exec,
	}
}

// A switcher carries out one switch.
type switcher struct {
	calls
	logf  func(format string, args ...any)
	moved []string // mounts that are in the new root already
}

func (s *switcher) run(t *Target, argv, env []string) error {
	oldDev, err := s.guard(t, argv)
	if err != nil {
		return &Error{Step: "refused", Err: err}
	}
	old, err := s.openDir("/")
	if err != nil {
		return &Error{Step: "open the old root", Err: err}
	}
	for _, mount := range movedMounts() {
		s.handOver(mount, t.Root, oldDev)
	}
	if err := s.chdir(t.Root); err != nil {
		s.undo(t.Root, old)
		return &Error{Step: "enter " + t.Root, Err: err}
	}
	if err := s.move(".", "/"); err != nil {
		s.undo(t.Root, old)
		return &Error{Step: "move " + t.Root + " to /", Err: err}
	}
	if err := s.chroot("."); err != nil {
		return &Error{Step: "chroot", Err: err, Committed: true}
	}
	if err := s.chdir("/"); err != nil {
		return &Error{Step: "enter the new root", Err: err, Committed: true}
	}
	if freed, err := s.free(old); err != nil {
		s.logf("initramfs: %d files freed, but %v", freed.removed, err)
	}
	// Before 5.11 the kernel lacks the flag. What this program opens itself is marked from the start.
	if err := s.closeOnExec(); err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		s.logf("close descriptors: %v", err)
	}
	for _, fd := range t.Inherit {
		if err := s.keep(fd); err != nil {
			s.logf("keep descriptor %d: %v", fd, err)
		}
	}
	return &Error{Step: "execute " + quote(t.Init), Err: s.exec(t.Init, argv, env), Committed: true}
}

// guard makes sure that what follows can only hit an initramfs: on any other system the files that are
// freed would be somebody's. It returns the device of the old root.
func (s *switcher) guard(t *Target, argv []string) (oldDev uint64, err error) {
	if pid := s.getpid(); pid != 1 {
		return 0, fmt.Errorf("process %d is not PID 1", pid)
	}
	if len(argv) == 0 {
		return 0, errors.New("no arguments for the new init")
	}
	switch kind, err := s.fsType("/"); {
	case err != nil:
		return 0, fmt.Errorf("statfs /: %w", err)
	case kind != unix.RAMFS_MAGIC && kind != unix.TMPFS_MAGIC:
		return 0, fmt.Errorf("/ is no initramfs: its file system type is %#x, neither ramfs nor tmpfs", kind)
	}
	self, err := s.lstat("/init")
	if err != nil {
		return 0, fmt.Errorf("/ is no initramfs: /init: %w", err)
	}
	if self.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, errors.New("/ is no initramfs: /init is not a regular file")
	}
	old, err := s.lstat("/")
	if err != nil {
		return 0, fmt.Errorf("lstat /: %w", err)
	}
	root, err := s.lstat(t.Root)
	if err != nil {
		return 0, fmt.Errorf("new root %s: %w", t.Root, err)
	}
	if root.Mode&unix.S_IFMT != unix.S_IFDIR || root.Dev == old.Dev {
		return 0, fmt.Errorf("nothing is mounted on %s", t.Root)
	}
	return uint64(old.Dev), nil
}

// handOver moves mount into the new root. Where that cannot be done the mount is taken away instead, for
// the new init makes its own and would only find the old one in its way.
func (s *switcher) handOver(mount, root string, oldDev uint64) {
	if st, err := s.lstat(mount); err != nil || uint64(st.Dev) == oldDev {
		return // never mounted
	}
	target := root + mount
	err := s.directory(target)
	if err == nil {
		err = s.move(mount, target)
	}
	if err == nil {
		s.moved = append(s.moved, mount)
		return
	}
	s.logf("%s is not handed over to the new root: %v", mount, err)
	if err := s.detach(mount); err != nil {
		s.logf("unmount %s: %v", mount, err)
	}
}

// directory makes sure that path is a directory and no link, which the move would follow out of the root.
func (s *switcher) directory(path string) error {
	st, err := s.lstat(path)
	if errors.Is(err, unix.ENOENT) {
		if err = s.mkdir(path, 0o755); err == nil {
			return nil
		}
		return fmt.Errorf("make directory %s: %w", path, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%s: %w", path, unix.ENOTDIR)
	}
	return nil
}

// undo closes the descriptor of the old root and moves back what handOver moved, so that a rescue shell
// finds its /dev and /proc.
func (s *switcher) undo(root string, old int) {
	if err := s.close(old); err != nil {
		s.logf("close the old root: %v", err)
	}
	if err := s.chdir("/"); err != nil {
		s.logf("enter the old root: %v", err)
	}
	for _, mount := range s.moved {
		if err := s.move(root+mount, mount); err != nil {
			s.logf("move %s back: %v", mount, err)
		}
	}
}
