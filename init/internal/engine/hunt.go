package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/fault"
	"hapax/init/internal/handoff"
	"hapax/init/internal/report"
	"hapax/init/internal/rootdev"
	"hapax/modload"
)

// sysroot is where the new root is mounted.
const sysroot = "/sysroot"

// A hunt looks for the root and mounts it.
type hunt struct {
	params *cmdline.Params
	ref    rootdev.Ref
	blocks *blocks
	warnf  func(format string, args ...any)

	// The effects, which tests replace.
	load    func(ctx context.Context, query string) error
	mountFS func(src, target, fstype, flags string, readWrite bool) error
	overlay func(target string) error
	present func(rootdev.Device) bool         // whether the kernel still has it
	check   func(device, fstype string) error // fsck
	wakeUp  func(rootdev.Seen) error          // resume= from it
	ask     func(point string)                // tells the guard that rd.break= has stopped here

	out     chan rootResult // one result
	timeout <-chan time.Time
	over    bool         // owned by the loop: a result comes too late
	mounted *report.Root // owned by the loop

	kicked  chan struct{} // a share of the host may have come
	goOn    chan struct{} // the guard's answer to ask
	nudge   func()        // makes the loop look at deadline again
	leaving atomic.Bool   // a device has matched and is on its way to out
	ended   atomic.Bool   // nobody waits any more

	mu      sync.Mutex
	step    string // what is done with the device that matched, for who waits
	refusal string // why a share could not be mounted the last time
}

// A rootResult is how the hunt ended.
type rootResult struct {
	root           *report.Root
	found, mounted float64 // CLOCK_BOOTTIME in ms
	err            error
}

// startHunt begins to look for what root= names.
func (e *engine) startHunt() {
	// An engine that died may have left its mounts.
	for _, dir := range []string{sysroot, overlayDir + "/rw", overlayDir + "/lower"} {
		for unmount(dir) == nil {
		}
	}
	ref, err := rootdev.ParseRoot(e.params.Root)
	if err == nil && ref.Kind == rootdev.ByGPTAuto {
		ref.Value, err = loaderPartition()
	}
	if err != nil {
		e.tell(handoff.Rescue, err.Error())
		return
	}
	h := newHunt(e.params, ref)
	h.warnf = e.log.Warnf
	h.load = e.modules.sched.Load
	h.nudge = func() { poke(e.nudge) }
	h.ask = func(point string) { e.tell(handoff.Break, point) }
	if e.params.Timeout != cmdline.Forever {
		h.timeout = time.After(e.params.Timeout)
	}
	e.hunt = h
	if !ref.OnDevice() {
		go h.share()
	}
	go h.progress(os.Stdout)
}

func newHunt(params *cmdline.Params, ref rootdev.Ref) *hunt {
	h := &hunt{
		params: params, ref: ref,
		mountFS: mountRoot, overlay: mountOverlay, present: inSysfs,
		out:    make(chan rootResult, 1),
		kicked: make(chan struct{}, 1),
		goOn:   make(chan struct{}, 1),
	}
	h.check = h.fsck
	h.wakeUp = h.restore
	return h
}

// watchBlocks has the block devices read, for the hunt if there is one, and
// gives them their links.
func (e *engine) watchBlocks() {
	var ref rootdev.Ref
	if e.hunt != nil && e.hunt.ref.OnDevice() {
		ref = e.hunt.ref
	}
	sys := rootdev.SysDir(e.sysfs)
	finder := rootdev.New(ref, sys)
	e.blocks = newBlocks(finder, e.log.Warnf)
	links, err := newLinker("/dev", sys, finder, e.log.Warnf)
	if err != nil {
		e.log.Warnf("%v", err)
	}
	e.blocks.links = links
	if e.hunt == nil {
		links.release()
		return
	}
	e.hunt.blocks = e.blocks
	e.blocks.matched = e.hunt.matched
}

// linksDue lets the links be made now that the machine has settled, unless the
// root is on its way and would have to share the processor with them.
func (e *engine) linksDue() {
	if e.hunt == nil || !e.hunt.leaving.Load() {
		e.blocks.release()
	}
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
	if h == nil || h.over || h.leaving.Load() { // found: what follows is not the device's delay
		return nil
	}
	return h.timeout
}

// giveUp makes whatever is still found come too late.
func (h *hunt) giveUp() {
	if h != nil {
		h.over = true
		h.ended.Store(true)
	}
}

// matched takes the device that the Finder has found, unless another is being
// taken.
func (h *hunt) matched() {
	if h.leaving.CompareAndSwap(false, true) {
		go h.take()
	}
}

// take makes the root of the device that was found. One that is unplugged on
// the way is no answer: then the next is waited for.
func (h *hunt) take() {
	for {
		seen, ok := h.blocks.finder.Root()
		if ok {
			res := h.mount(seen)
			if res.err == nil || h.present(seen.Device) {
				h.out <- res
				return
			}
			h.warnf("%s was unplugged before it could be mounted (%v): waiting for root=%s again", seen.Name, res.err, h.params.Root)
			if now, same := h.blocks.finder.Root(); same && now.Device == seen.Device {
				h.blocks.forget(seen.Name)
			}
		}
		h.say("")
		h.blocks.release()
		h.leaving.Store(false)
		h.nudge()
		if _, ok := h.blocks.finder.Root(); !ok || !h.leaving.CompareAndSwap(false, true) {
			return
		}
	}
}

// mount makes the device that matched the root: after rd.break=, resume= and
// fsck have had their turn.
func (h *hunt) mount(seen rootdev.Seen) rootResult {
	res := rootResult{found: report.Now()}
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
	h.pause("pre-mount")
	h.resume()
	if !h.ref.Overlay {
		fault.At("fsck")
		h.say("fsck." + types[0] + " of " + res.root.Device)
		if res.err = h.check(res.root.Device, types[0]); res.err != nil {
			return res
		}
	}
	h.pause("mount")
	fault.At("mount")
	h.say("mount of " + res.root.Device)
	target, readWrite := sysroot, h.params.ReadWrite
	if h.ref.Overlay {
		target, readWrite = overlayDir+"/lower", false
	}
	if res.root.Type, res.err = h.tryTypes(res.root.Device, target, types, readWrite); res.err == nil && h.ref.Overlay {
		_ = h.loadFS("overlay")
		res.err = h.overlay(sysroot)
	}
	res.mounted = report.Now()
	fault.At("mounted")
	return res
}

// tryTypes mounts src as the first type that fits, and loads the module of each
// before if it has one.
func (h *hunt) tryTypes(src, target string, types []string, readWrite bool) (fstype string, err error) {
	var errs []error
	for _, fstype := range types {
		if err := h.loadFS(fstype); err != nil {
			h.warnf("%v", err)
		}
		err := h.mountFS(src, target, fstype, h.params.RootFlags, readWrite)
		if err == nil {
			return fstype, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// loadFS loads the module of a file system, if it has one.
func (h *hunt) loadFS(fstype string) error {
	err := h.load(context.Background(), "fs-"+fstype)
	if errors.Is(err, modload.ErrNotFound) {
		return nil
	}
	return err
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
		e.hunt.giveUp()
		e.blocks.release()
		e.writeReport()
		e.announce()
		e.tell(handoff.Rescue, "root="+e.params.Root+": "+r.err.Error())
	default:
		e.hunt.mounted = r.root
		e.hunt.ended.Store(true)
		e.clock.Found, e.clock.Mounted = r.found, r.mounted
		fault.At("root")
		e.log.Infof("root %s (%s) mounted after %.3f s", r.root.Device, r.root.Type, (r.mounted-e.clock.Engine)/1000)
		e.tell(handoff.Root, sysroot)
	}
}
