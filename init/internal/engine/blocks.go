package engine

import (
	"io"
	"strconv"
	"sync"

	"hapax/coldplug"
	"hapax/init/internal/fault"
	"hapax/init/internal/rootdev"
	"hapax/uevent"
)

// maxProbes bounds the devices that are read at one time. A disk whose reads
// never end keeps its place, so there are more of them than CPUs.
const maxProbes = 32

// blocks reads each block device once it is there and again when it has
// changed, and keeps what the Finder and the links have of it current. A nil
// blocks takes no notice of anything.
type blocks struct {
	finder *rootdev.Finder
	links  *linker // nil if there is no /dev
	warnf  func(format string, args ...any)
	open   func(name string) (io.ReaderAt, int64, error) // replaced by tests

	matched func()        // the root is there, told from the goroutine that read it
	probed  chan struct{} // readable after a device was read

	mu      sync.Mutex
	queue   []rootdev.Device
	reading map[string]bool // devices that are read now, and whether they were removed meanwhile
	probers int
}

func newBlocks(finder *rootdev.Finder, warnf func(format string, args ...any)) *blocks {
	return &blocks{
		finder: finder, warnf: warnf, open: openBlock, matched: func() {}, probed: make(chan struct{}, 1),
		reading: map[string]bool{},
	}
}

// found offers a device that the walk saw.
func (b *blocks) found(devpath string, d *coldplug.Block) {
	if b == nil {
		return
	}
	b.offer(rootdev.Device{
		Name:      d.Name,
		Devno:     rootdev.Devno{Major: d.Major, Minor: d.Minor},
		Partition: d.Partition,
		DevPath:   devpath,
		Diskseq:   d.Diskseq,
	})
}

// added passes on that a device of any subsystem may have a new device file.
func (b *blocks) added(ev *uevent.Event) {
	if name, ok := ev.Var("DEVNAME"); ok && b != nil {
		b.links.own(name)
	}
}

// event offers the device of a uevent, or forgets it.
func (b *blocks) event(ev *uevent.Event) {
	name, _ := ev.Var("DEVNAME")
	if b == nil || name == "" {
		return
	}
	switch ev.Action {
	case uevent.Remove:
		b.forget(name)
	case uevent.Add, uevent.Change:
		devtype, _ := ev.Var("DEVTYPE")
		diskseq, _ := ev.Var("DISKSEQ")
		b.offer(rootdev.Device{
			Name:      name,
			Devno:     rootdev.Devno{Major: number(ev, "MAJOR"), Minor: number(ev, "MINOR")},
			Partition: devtype == "partition",
			DevPath:   ev.DevPath,
			Diskseq:   diskseq,
		})
	}
}

func number(ev *uevent.Event, key string) uint32 {
	v, _ := ev.Var(key)
	n, _ := strconv.ParseUint(v, 10, 32)
	return uint32(n)
}

// forget drops a device. What had to stand behind it gets its chance.
func (b *blocks) forget(name string) {
	b.mu.Lock()
	if _, busy := b.reading[name]; busy {
		b.reading[name] = true
	}
	b.mu.Unlock()
	duplicates := b.finder.Remove(name)
	b.links.touch(name)
	for _, d := range duplicates {
		b.offer(d)
	}
}

// release lets links be made that were held for the root's sake.
func (b *blocks) release() {
	if b != nil {
		b.links.release()
	}
}

// offer queues dev for a probe, unless it is queued already.
func (b *blocks) offer(dev rootdev.Device) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, q := range b.queue {
		if q == dev {
			return
		}
	}
	b.queue = append(b.queue, dev)
	if b.probers < maxProbes {
		b.probers++
		go b.probe()
	}
}

// probe looks at queued devices until there are none. Of all that match the
// first is told; the Finder takes later ones for duplicates and says so.
func (b *blocks) probe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() { b.probers-- }()
	for dev, ok := b.next(); ok; dev, ok = b.next() {
		b.reading[dev.Name] = false
		b.mu.Unlock()
		fault.At("probe")
		match, err := b.finder.Offer(dev, func() (io.ReaderAt, int64, error) { return b.open(dev.Name) })
		b.mu.Lock()
		removed := b.reading[dev.Name]
		delete(b.reading, dev.Name)
		b.mu.Unlock()
		switch {
		case removed:
			b.forget(dev.Name) // what was read is of a device that is gone
		case err != nil:
			b.warnf("%v", err)
		}
		if match && !removed {
			fault.At("match")
			b.matched()
		}
		poke(b.probed)
		// A partition's names come from the table of its disk.
		b.links.touch(dev.Name)
		b.links.touch(b.finder.Partitions(dev.Name)...)
		b.mu.Lock()
	}
}

// next takes the first device off the queue that nobody reads: what is read of
// one name is of one device after the other.
func (b *blocks) next() (rootdev.Device, bool) {
	for i, dev := range b.queue {
		if _, busy := b.reading[dev.Name]; !busy {
			copy(b.queue[1:], b.queue[:i]) // i is 0 but for the few that are being read
			b.queue = b.queue[1:]
			return dev, true
		}
	}
	return rootdev.Device{}, false
}
