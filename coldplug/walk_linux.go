package coldplug

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// largeWalk is the number of directories from which on helpers pay for being woken. A virtual
	// machine has about 200: one worker reads them in a millisecond.
	largeWalk = 512
	// maxWorkers is where more workers stop to help: they meet on the kernel's locks for sysfs.
	maxWorkers = 4
	// maxDepth bounds the descriptors that a worker holds, one for each level. Chains of USB hubs and
	// PCI bridges stay below 30.
	maxDepth = 64
)

// Stats counts what a walk has done.
type Stats struct {
	Dirs       int // directories opened
	Files      int // uevent and modalias files read, or tried
	Reported   int // devices reported
	Vanished   int // directories and files that went away before they were read
	Unreadable int // those that could not be read for another reason, or lie too deep
}

func (s *Stats) add(t Stats) {
	s.Dirs += t.Dirs
	s.Files += t.Files
	s.Reported += t.Reported
	s.Vanished += t.Vanished
	s.Unreadable += t.Unreadable
}

// Walk visits the devices below sysfs + "/devices" and calls report for each that has a modalias or is
// a block device. Each device is reported once, in no particular order; report may be called from up
// to 4 goroutines at the same time, all of which have ended when Walk returns. The same alias may come
// from any number of devices.
//
// Directories that hold no such device are passed over, most of all those with an entry for each CPU
// or memory block: every cpuN has the same alias, which also stands in devices/system/cpu/modalias.
//
// A device that vanishes during the walk or cannot be read is counted and passed over. Walk returns an
// error if sysfs is not there, descriptors or memory run out, or ctx ends; Stats then tell how far it
// came. It never follows a symbolic link below devices, never blocks on a file and never writes.
func Walk(ctx context.Context, sysfs string, report func(Device)) (Stats, error) {
	root, err := unix.Open(sysfs+"/devices", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Stats{}, fmt.Errorf("coldplug: open %s/devices (is sysfs mounted?): %w", sysfs, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &walk{ctx: ctx, cancel: cancel, report: report, jobs: make(chan job)}
	w.pending.Store(1)

	first := newWorker(w)
	var helpers sync.WaitGroup
	first.grow = func() {
		for range min(runtime.GOMAXPROCS(0), maxWorkers) - 1 {
			helpers.Go(func() { newWorker(w).help() })
		}
	}
	first.path = append(first.path, "/devices"...)
	first.visit(root, 0)
	first.finish()
	first.help()
	helpers.Wait()
	return w.stats, context.Cause(ctx)
}

// A walk is what the workers of one Walk share.
type walk struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	report func(Device)

	jobs    chan job     // unbuffered: a job goes to a worker that waits for one; closed when pending is 0
	pending atomic.Int64 // jobs begun or handed over and not yet finished
	idle    atomic.Int64 // workers about to wait for a job

	mu    sync.Mutex
	stats Stats // protected by mu: the sum of the workers that have ended
}

// A job is a directory of which one worker leaves some of the subdirectories to another.
type job struct {
	fd    int // a descriptor of its own
	path  string
	kind  kind
	names []byte // of the subdirectories, each ended by a NUL
	depth int    // of the directory
}

// offer hands j over to an idle worker and reports whether there still was one. Work waits on the
// stacks of the workers, not in a queue that would hold descriptors.
func (w *walk) offer(j job) bool {
	w.pending.Add(1)
	select {
	case w.jobs <- j:
		return true
	default:
		w.pending.Add(-1) // not the last: the caller's own job is pending
		return false
	}
}

// finish ends one job and, when it was the last, the walk.
func (w *walk) finish() {
	if w.pending.Add(-1) == 0 {
		close(w.jobs)
	}
}
