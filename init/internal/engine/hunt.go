package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hapax/coldplug"
	"hapax/init/internal/cmdline"
	"hapax/init/internal/handoff"
	"hapax/init/internal/report"
	"hapax/init/internal/rootdev"
	"hapax/modload"
	"hapax/uevent"
)

// sysroot is where the new root is mounted.
const sysroot = "/sysroot"

// maxProbes bounds the devices that are read at one time. A disk whose reads
// never end keeps its place, so there are more of them than CPUs.
const maxProbes = 32

// A hunt looks for the root among the block devices and mounts it.
type hunt struct {
	params *cmdline.Params
	finder *rootdev.Finder
	warnf  func(format string, args ...any)

	// The effects, which tests replace.
	load    func(ctx context.Context, query string) error
	open    func(name string) (io.ReaderAt, int64, error)
	mountFS func(src, target, fstype, flags string, readWrite bool) error

	out     chan rootResult // one result
	timeout <-chan time.Time
	over    bool         // owned by the loop: a result comes too late
	mounted *report.Root // owned by the loop

	mu      sync.Mutex
	queue   []rootdev.Device
	probers int

	sent atomic.Bool // out has its one result, or will have
}

// A rootResult is how the hunt ended.
type rootResult struct {
	root           *report.Root
	found, mounted float64 // CLOCK_BOOTTIME in ms
	err            error
}

// startHunt begins to look for what root= names.
func (e *engine) startHunt() {
	// An engine that died may have left its mount.
	for unmount(sysroot) == nil {
	}
	ref, err := rootdev.ParseRef(e.params.Root)
	if err != nil {
		e.tell(handoff.Rescue, err.Error())
		return
	}
	h := &hunt{
		params:  e.params,
		finder:  rootdev.New(ref),
		warnf:   e.log.Warnf,
		load:    e.modules.sched.Load,
		open:    openBlock,
		mountFS: mountRoot,
		out:     make(chan rootResult, 1),
	}
	if e.params.Timeout != cmdline.Forever {
		h.timeout = time.After(e.params.Timeout)
	}
	e.hunt = h
}

// results delivers the outcome; nil, which blocks, without a hunt.
func (h *hunt) results() <-chan rootResult {
	if h == nil {
		return nil
	}
	return h.out
}

// deadline fires when the root has not come in time.
func (h *hunt) deadline() <-chan time.Time {
	if h == nil || h.over || h.sent.Load() { // found: what follows is not the device's delay
		return nil
	}
	return h.timeout
}

// giveUp makes whatever is still found come too late.
func (h *hunt) giveUp() {
	if h != nil {
		h.over = true
	}
}

// found offers a device that the walk saw.
func (h *hunt) found(b *coldplug.Block) {
	h.offer(rootdev.Device{
		Name:      b.Name,
		Devno:     rootdev.Devno{Major: b.Major, Minor: b.Minor},
		Partition: b.Partition,
	})
}

// event offers the device of a uevent, or forgets it.
func (h *hunt) event(ev *uevent.Event) {
	name, _ := ev.Var("DEVNAME")
	if name == "" {
		return
	}
	switch ev.Action {
	case uevent.Remove:
		h.finder.Remove(name)
	case uevent.Add, uevent.Change:
		devtype, _ := ev.Var("DEVTYPE")
		h.offer(rootdev.Device{
			Name:      name,
			Devno:     rootdev.Devno{Major: number(ev, "MAJOR"), Minor: number(ev, "MINOR")},
			Partition: devtype == "partition",
		})
	}
}

func number(ev *uevent.Event, key string) uint32 {
	v, _ := ev.Var(key)
	n, _ := strconv.ParseUint(v, 10, 32)
	return uint32(n)
}

// offer queues dev for a probe, unless it is queued already.
func (h *hunt) offer(dev rootdev.Device) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, q := range h.queue {
		if q == dev {
			return
		}
	}
	h.queue = append(h.queue, dev)
	if h.probers < maxProbes {
		h.probers++
		go h.probe()
	}
}

// probe looks at queued devices until there are none. The first that matches
// is mounted here, and the result is sent; the Finder takes later ones for
// duplicates and says so.
func (h *hunt) probe() {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { h.probers-- }()
	for len(h.queue) > 0 {
		dev := h.queue[0]
		h.queue = h.queue[1:]
		h.mu.Unlock()
		match, err := h.finder.Offer(dev, func() (io.ReaderAt, int64, error) { return h.open(dev.Name) })
		if err != nil {
			h.warnf("%v", err)
		}
		if match && h.sent.CompareAndSwap(false, true) {
			h.out <- h.mount()
		}
		h.mu.Lock()
	}
}

// mount mounts the device that matched, and loads the module of its file
// system first if it has one.
func (h *hunt) mount() rootResult {
	res := rootResult{found: report.Now()}
	seen, ok := h.finder.Root()
	if !ok {
		return rootResult{err: errors.New("the root device has gone again")}
	}
	res.root = &report.Root{
		Ref: h.params.Root, Device: filepath.Join("/dev", seen.Name), Type: seen.Type, UUID: seen.UUID, Label: seen.Label,
	}
	types := []string{seen.Type}
	if t := h.params.RootFSType; t != "" && t != "auto" {
		types = strings.Split(t, ",")
	}
	if types[0] == "" {
		res.err = fmt.Errorf("%s: no file system is recognised on it; name its type with rootfstype=", res.root.Device)
		return res
	}
	time.Sleep(h.params.RootDelay)
	var errs []error
	for _, fstype := range types {
		err := h.load(context.Background(), "fs-"+fstype)
		if err != nil && !errors.Is(err, modload.ErrNotFound) {
			h.warnf("%v", err)
		}
		err = h.mountFS(res.root.Device, sysroot, fstype, h.params.RootFlags, h.params.ReadWrite)
		if err == nil {
			res.root.Type, res.mounted = fstype, report.Now()
			return res
		}
		errs = append(errs, err)
	}
	res.err = errors.Join(errs...)
	return res
}

// mountRoot is rootdev.Mount on a folder that need not be there.
func mountRoot(src, target, fstype, flags string, readWrite bool) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	return rootdev.Mount(src, target, fstype, flags, readWrite)
}

// rootEnded acts on the hunt's result.
func (e *engine) rootEnded(r rootResult) {
	switch {
	case e.hunt.over:
		e.log.Warnf("root=%s has appeared after the boot was given up", e.params.Root)
	case r.err != nil:
		e.hunt.over = true
		e.writeReport()
		e.announce()
		e.tell(handoff.Rescue, "root="+e.params.Root+": "+r.err.Error())
	default:
		e.hunt.mounted = r.root
		e.clock.Found, e.clock.Mounted = r.found, r.mounted
		e.log.Infof("root %s (%s) mounted after %.3f s", r.root.Device, r.root.Type, (r.mounted-e.clock.Engine)/1000)
		e.tell(handoff.Root, sysroot)
	}
}
