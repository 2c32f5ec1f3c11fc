package mnt

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Flags are the options of a mount that the VFS knows, as the MS_ constants of mount(2).
type Flags uintptr

// The flags in use here.
const (
	NoSuid      Flags = unix.MS_NOSUID
	NoDev       Flags = unix.MS_NODEV
	NoExec      Flags = unix.MS_NOEXEC
	StrictAtime Flags = unix.MS_STRICTATIME
)

// names returns the spellings of mount(8), in a fixed order.
func (f Flags) names() []string {
	var names []string
	for _, n := range []struct {
		flag Flags
		name string
	}{{NoSuid, "nosuid"}, {NoDev, "nodev"}, {NoExec, "noexec"}, {StrictAtime, "strictatime"}} {
		if f&n.flag != 0 {
			names = append(names, n.name)
		}
	}
	return names
}

// A System is the way of a Step to the kernel: one field for each system call in use. Kernel returns the
// real one; a test fills in a recorder. Errors are to be errnos, or to wrap them.
type System struct {
	Mkdir   func(path string, mode uint32) error
	Mount   func(source, target, fstype string, flags uintptr, data string) error
	Mknod   func(path string, mode uint32, dev int) error
	Chmod   func(path string, mode uint32) error
	Symlink func(target, path string) error
}

// Kernel returns the System of the running kernel.
func Kernel() System {
	return System{Mkdir: unix.Mkdir, Mount: unix.Mount, Mknod: unix.Mknod, Chmod: unix.Chmod, Symlink: unix.Symlink}
}

// A StepError is the failure of one step. Err is the errno.
type StepError struct {
	Step    Step
	Err     error
	Meaning string // what that says about the machine, "" if the errno says it all
}

func (e *StepError) Error() string {
	if e.Meaning == "" {
		return fmt.Sprintf("%v: %v", e.Step, e.Err)
	}
	return fmt.Sprintf("%v: %v: %s", e.Step, e.Err, e.Meaning)
}

// Unwrap returns the errno.
func (e *StepError) Unwrap() error { return e.Err }

// Apply carries out steps in order below root, "" for the real one, and goes on after a failure: half a
// plan is a better place to report from than none. It returns a *StepError for each failure, in order; a
// Mount that had to fall back on its Else is among them. It is made to run once:
// applied again it finds most of what it made before, but mounts a second tmpfs and proc over the first.
func Apply(sys System, root string, steps []Step) []error {
	root = strings.TrimSuffix(root, "/")
	var errs []error
	for _, step := range steps {
		err := step.apply(&sys, root)
		if err == nil {
			continue
		}
		m, isMount := step.(Mount)
		fallback := isMount && len(m.Else) > 0 && errors.Is(err, unix.ENODEV)
		errs = append(errs, &StepError{Step: step, Err: err, Meaning: meaning(step, err, fallback)})
		if fallback {
			errs = append(errs, Apply(sys, root, m.Else)...)
		}
	}
	return errs
}

// meaning says what a person can do about err, where the errno alone does not tell.
func meaning(step Step, err error, fallback bool) string {
	m, isMount := step.(Mount)
	switch {
	case isMount && errors.Is(err, unix.ENODEV) && fallback:
		return "the kernel lacks " + m.Needs + "; continuing with a small static " + m.Target
	case isMount && errors.Is(err, unix.ENODEV):
		return "the kernel lacks " + m.Needs
	case isMount && errors.Is(err, unix.ENOENT):
		return "the image has no directory " + m.Target
	case errors.Is(err, unix.EROFS):
		return "the root file system cannot be written to"
	case errors.Is(err, unix.EPERM):
		return "not run as PID 1 with all capabilities"
	}
	return ""
}

func (d Dir) apply(sys *System, root string) error {
	return unless(unix.EEXIST, sys.Mkdir(root+d.Path, d.Mode))
}

func (m Mount) apply(sys *System, root string) error {
	return unless(unix.EBUSY, sys.Mount(m.Source, root+m.Target, m.FSType, uintptr(m.Flags), m.Data))
}

func (n Node) apply(sys *System, root string) error {
	err := sys.Mknod(root+n.Path, unix.S_IFCHR|n.Mode, int(unix.Mkdev(n.Major, n.Minor)))
	if err != nil {
		return unless(unix.EEXIST, err)
	}
	return sys.Chmod(root+n.Path, n.Mode)
}

func (l Symlink) apply(sys *System, root string) error {
	return unless(unix.EEXIST, sys.Symlink(l.Target, root+l.Path))
}

// unless returns err, or nil if it is fine, the errno which says that the thing is there.
func unless(fine unix.Errno, err error) error {
	if errors.Is(err, fine) {
		return nil
	}
	return err
}
