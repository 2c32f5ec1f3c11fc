package modload

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hapax/modload/modindex"
)

// A Kernel inserts modules into the running kernel. Its methods may be called
// concurrently.
type Kernel struct {
	dir         int    // the modules folder, paths of modules start here
	compression string // what the kernel unpacks itself: "xz", "zstd", "gzip" or ""
}

// OpenKernel returns a Kernel that reads modules below dir, a
// lib/modules/RELEASE folder.
func OpenKernel(dir string) (*Kernel, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	k := &Kernel{dir: fd}
	// The file is there only if the kernel was built with MODULE_DECOMPRESS.
	if b, err := os.ReadFile("/sys/module/compression"); err == nil {
		k.compression = string(bytes.TrimSpace(b))
	}
	return k, nil
}

// Close releases the modules folder. No Load may be running or follow.
func (k *Kernel) Close() error { return unix.Close(k.dir) }

// ReadPresent returns the names of the modules that are in the kernel, read from
// /proc/modules. A module that another loader is inserting at this moment is
// left out: Load waits for it.
func ReadPresent() ([]string, error) {
	b, err := os.ReadFile("/proc/modules")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // a kernel without modules
	}
	if err != nil {
		return nil, err
	}
	return presentIn(string(b)), nil
}

// presentIn returns the live modules of a /proc/modules text, whose lines read
// "name size refcount users state address".
func presentIn(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 5 && f[4] == "Live" {
			names = append(names, f[0])
		}
	}
	return names
}

// Load is the LoadFunc of the running kernel: finit_module(2) on the module's
// file, unless the kernel has the module already. It blocks for as long as the
// module's init function does.
func (k *Kernel) Load(m modindex.Module, params string) Result {
	if awaitForeign(m.Name) == "live" {
		return Result{}
	}
	fd, flags, err := k.open(m)
	if err != nil {
		return Result{Err: err}
	}
	defer unix.Close(fd)

	err = finitModule(fd, params, flags)
	res := Result{Calls: 1}
	if err == unix.EEXIST || err == unix.EBUSY || err == unix.ETXTBSY {
		res.Duplicates = 1
	}
	if err != nil {
		res.Err = verdict(m.Name, err, func() bool { return awaitForeign(m.Name) == "live" })
	}
	return res
}

// open returns the module's file, ready for finit_module, and the flags that
// go with it. Everything that finit_module would refuse and count as a failed
// read is refused here.
func (k *Kernel) open(m modindex.Module) (fd, flags int, err error) {
	fail := func(op string, err error) (int, int, error) {
		return -1, 0, &LoadError{Module: m.Name, Op: op + " " + m.Path, Err: err}
	}
	// O_NONBLOCK: a FIFO in place of the file must not hold a loader.
	fd, err = unix.Openat(k.dir, m.Path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fail("open", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return fail("stat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size == 0 {
		unix.Close(fd)
		return fail("open", errors.New("not a regular file with content"))
	}
	var head [6]byte
	n, err := unix.Pread(fd, head[:], 0)
	if err != nil {
		unix.Close(fd)
		return fail("read", err)
	}
	switch c := compressionOf(head[:n]); c {
	case "":
	case k.compression:
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	default:
		unix.Close(fd)
		return fail("open", fmt.Errorf("compressed with %s, which this kernel does not unpack; store it uncompressed", c))
	}
	return fd, flags, nil
}

// compressionOf names the compression of a module file by its first bytes, as
// /sys/module/compression spells it; "" for none. The name of the file is no
// evidence.
func compressionOf(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b\x08")):
		return "gzip"
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return "xz"
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		return "zstd"
	}
	return ""
}

// finitModule calls finit_module(2) with all signals blocked.
func finitModule(fd int, params string, flags int) error {
	return undisturbed(func() error { return unix.FinitModule(fd, params, flags) })
}

// undisturbed calls fn on a locked thread with all signals blocked. The Go
// runtime and the parent of children get signals of their own (SIGURG,
// SIGCHLD); one that hits a thread inside a module's init function ends its
// interruptible waits and may start the system call a second time.
func undisturbed(fn func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return err
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	return fn()
}

// verdict turns the errno of finit_module into the error of the module. isLive
// asks the kernel whether the module is there all the same. Where an errno can
// come from the loader as well as from an init function, the side is taken
// that does not try again. See kernel/module/main.c.
func verdict(name string, err error, isLive func() bool) error {
	hard := &LoadError{Module: name, Op: "finit_module", Err: err}
	switch err {
	case unix.EEXIST, unix.EBUSY, unix.EINTR:
		// Another loader was first, or the init function itself returned this.
		if isLive() {
			return nil
		}
	case unix.ENOENT, // unknown symbol
		unix.EINVAL,                                  // parameter, symbol version, name of a built-in
		unix.ENOEXEC,                                 // not a module of this kernel
		unix.EPERM,                                   // no capability, modules_disabled, lockdown
		unix.EKEYREJECTED, unix.EBADMSG, unix.ENOKEY, // signature
		unix.EFBIG, unix.EIO, unix.EACCES, unix.ETXTBSY, unix.ENOMEM,
		unix.ENOSYS, unix.EBADF, unix.EFAULT: // a kernel without modules, and faults of our own
		return hard
	}
	hard.Err = fmt.Errorf("%w: %w", ErrRefused, err)
	return hard
}

// awaitForeign returns "live" if the kernel has the module, "" if it does not.
// A module that another program is inserting or removing at this moment is
// waited for, as long as the kernel itself would wait for a dependency.
func awaitForeign(name string) string {
	const patience = 30 * time.Second
	for wait, total := time.Millisecond, time.Duration(0); ; wait = min(2*wait, 100*time.Millisecond) {
		state := initstate(name)
		if state != "coming" && state != "going" || total >= patience {
			return state
		}
		time.Sleep(wait)
		total += wait
	}
}

// initstate returns the text of /sys/module/NAME/initstate: "coming", "live"
// or "going", and "" if the kernel does not have the module. The folder of a
// built-in has no such file.
func initstate(name string) string {
	fd, err := unix.Open("/sys/module/"+name+"/initstate", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var buf [16]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return "" // ENODEV while it is being torn down
	}
	return string(bytes.TrimSpace(buf[:n]))
}
