package modload

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hapax/modload/modindex"
)

// A Kernel inserts modules into the running kernel. Its methods may be called
// concurrently.
type Kernel struct {
	dir         int                    // the modules folder, paths of modules start here
	compression string                 // what the kernel unpacks itself: "xz", "zstd", "gzip" or ""
	unpacking   chan struct{}          // holds one token per file that is being unpacked
	policy      atomic.Pointer[policy] // read anew when the kernel says EPERM

	// What the kernel answers. Tests script it.
	finit      func(fd int, params string, flags int) error
	initstate  func(name string) string
	readPolicy func() *policy
}

// OpenKernel returns a Kernel that reads modules below dir, a
// lib/modules/RELEASE folder. It looks up once what the running kernel lets in;
// a kernel that lets in nothing is no error here, but of each Load.
func OpenKernel(dir string) (*Kernel, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	k := &Kernel{
		dir:        fd,
		unpacking:  make(chan struct{}, runtime.NumCPU()),
		finit:      finitModule,
		initstate:  initstate,
		readPolicy: func() *policy { return readPolicy("/", mayLoad()) },
	}
	k.policy.Store(k.readPolicy())
	// The file is there only if the kernel was built with MODULE_DECOMPRESS.
	if b, err := os.ReadFile("/sys/module/compression"); err == nil {
		k.compression = string(bytes.TrimSpace(b))
	}
	return k, nil
}

// Close releases the modules folder. No Load may be running or follow.
func (k *Kernel) Close() error { return unix.Close(k.dir) }

// How long a file that somebody has open for writing is waited for: at first
// firstPause, then twice as long each time up to longestPause, patience in
// all.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = time.Second
	patience     = 5 * time.Second
)

// Load is the LoadFunc of the running kernel: finit_module(2) on the module's
// file, unless the kernel has the module already or would let no module in. It
// blocks for as long as the module's init function does.
func (k *Kernel) Load(m modindex.Module, params string) Result {
	if err := k.policy.Load().barred; err != nil {
		return Result{Err: &LoadError{Module: m.Name, Op: "check", Err: err}}
	}
	if k.awaitForeign(m.Name) == "live" {
		return Result{}
	}
	fd, flags, err := k.open(m)
	if err != nil {
		return Result{Err: err, Again: errors.Is(err, unix.ENOMEM)}
	}
	defer unix.Close(fd)

	var res Result
	for pause, waited := firstPause, time.Duration(0); ; pause = min(2*pause, longestPause) {
		err = k.insert(fd, params, flags, &res)
		if err != unix.ETXTBSY || waited >= patience {
			break
		}
		time.Sleep(pause)
		waited += pause
		// There have been kernels that said ETXTBSY to the second of two loaders.
		if k.awaitForeign(m.Name) == "live" {
			return res
		}
	}
	if err == unix.EPERM {
		k.policy.Store(k.readPolicy())
	}
	res.Err, res.Again = verdict(m.Name, err, func() bool { return k.awaitForeign(m.Name) == "live" })
	return res
}

// insert makes one finit_module call and counts it. A file that is open for
// writing gets ETXTBSY without one, for the kernel would count a failed read.
func (k *Kernel) insert(fd int, params string, flags int, res *Result) error {
	if beingWritten(fd) {
		return unix.ETXTBSY
	}
	err := k.finit(fd, params, flags)
	res.Calls++
	if err == unix.EEXIST || err == unix.EBUSY || err == unix.ETXTBSY {
		res.Duplicates++
	}
	return err
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
