package modload

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Kernel inserts modules into the running kernel. Its methods may be called
// concurrently.
type Kernel struct {
	dir         int                    // the modules folder, paths of modules start here
	compression string                 // what the kernel unpacks itself: "xz", "zstd", "gzip" or ""
	unpacking   chan struct{}          // holds one token per file that is being unpacked
	reading     budget                 // of the bytes that loads hold at one time
	threads     threads                // that are inside finit_module
	policy      atomic.Pointer[policy] // read anew when the kernel says EPERM

	// What the kernel answers. Tests script it.
	finit      func(name string, fd int, params string, flags int) error
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
		reading:    newBudget(memory()),
		initstate:  initstate,
		readPolicy: func() *policy { return readPolicy("/", mayLoad()) },
	}
	k.finit = k.finitModule
	k.policy.Store(k.readPolicy())
	// The file is there only if the kernel was built with MODULE_DECOMPRESS.
	if b, err := os.ReadFile("/sys/module/compression"); err == nil {
		k.compression = string(bytes.TrimSpace(b))
	}
	return k, nil
}

// Barred returns why the kernel lets no module in at all, nil if it does.
func (k *Kernel) Barred() error { return k.policy.Load().barred }

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
func (k *Kernel) Load(j Job) Result {
	m := j.Module
	if err := k.policy.Load().barred; err != nil {
		return Result{Err: &LoadError{Module: m.Name, Op: "check", Err: err}}
	}
	switch state := k.awaitForeign(m.Name); state {
	case "live":
		return Result{}
	case "coming", "going":
		return Result{Err: &LoadError{Module: m.Name, Op: "wait for another loader, which has it " + state, Err: ErrOverdue}}
	}
	f, err := k.open(j)
	if err != nil {
		return Result{Err: err, Again: errors.Is(err, unix.ENOMEM)}
	}
	defer f.close()

	var res Result
	for pause, waited := firstPause, time.Duration(0); ; pause = min(2*pause, longestPause) {
		err = k.insert(m.Name, f, j.Params, f.flags|j.Flags, &res)
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
	res.Err, res.Again = verdict(m.Name, err, func() bool {
		if k.awaitForeign(m.Name) == "live" {
			return true
		}
		// The file may have another name than the module that the kernel has.
		res.Name = k.nameIn(f)
		return res.Name != "" && res.Name != m.Name && k.awaitForeign(res.Name) == "live"
	})
	if err == unix.EEXIST && res.Err == nil {
		// Without the module being there it is the init function's own word:
		// the second of two cpufreq drivers returns it.
		res.Duplicates++
	}
	return res
}

// Unload is the counterpart of Load: delete_module(2). It returns the errno.
func (k *Kernel) Unload(name string, flags int) error {
	return undisturbed(func() error { return unix.DeleteModule(name, flags) })
}

// insert makes one finit_module call and counts it. A file that is open for
// writing gets ETXTBSY without one, for the kernel would count a failed read.
func (k *Kernel) insert(name string, f *file, params string, flags int, res *Result) error {
	if beingWritten(f.fd) {
		return unix.ETXTBSY
	}
	err := k.finit(name, f.fd, params, flags)
	res.Calls++
	if err == unix.EBUSY || err == unix.ETXTBSY {
		res.Duplicates++
	}
	return err
}

// finitModule calls finit_module(2) with all signals blocked.
func (k *Kernel) finitModule(name string, fd int, params string, flags int) error {
	return undisturbed(func() error {
		defer k.threads.enter(name)()
		return unix.FinitModule(fd, params, flags)
	})
}
