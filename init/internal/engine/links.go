package engine

import (
	"sync"

	"hapax/init/internal/rootdev"
)

// A linker keeps the links below /dev and the owners of device files. It is
// told which devices are news and looks up for itself what there is to say of
// them, so that the last news counts, whatever the order. One goroutine does it
// all.
//
// The root does not wait for links: making them is held until the machine is
// settled or there is no root to look for. A boot that is through before that
// leaves them to the device manager of the real root. A nil linker makes none.
type linker struct {
	finder *rootdev.Finder
	links  *rootdev.Links
	sys    rootdev.SysFS
	owners *owners // nil if the image has no groups
	warnf  func(format string, args ...any)

	wake chan struct{}

	mu      sync.Mutex
	held    bool
	pending []string        // names of devices, each once
	waiting map[string]bool // the same
}

func newLinker(dev string, sys rootdev.SysFS, finder *rootdev.Finder, warnf func(format string, args ...any)) (*linker, error) {
	links, err := rootdev.NewLinks(dev)
	if err != nil {
		return nil, err
	}
	owners, err := openOwners(dev, groupFile, sys)
	if err != nil {
		warnf("%v", err)
	}
	l := &linker{
		finder: finder, links: links, sys: sys, owners: owners, warnf: warnf,
		held: true, wake: make(chan struct{}, 1), waiting: map[string]bool{},
	}
	go l.run()
	return l, nil
}

// touch says that something is new about devices.
func (l *linker) touch(names ...string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		if !l.waiting[name] {
			l.waiting[name] = true
			l.pending = append(l.pending, name)
		}
	}
	if !l.held {
		poke(l.wake)
	}
}

// own says that there may be a new device file.
func (l *linker) own(name string) {
	if l != nil && l.owners != nil {
		l.touch(name)
	}
}

// release lets the links be made, from now on.
func (l *linker) release() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = false
	poke(l.wake)
}

func (l *linker) run() {
	<-l.wake
	l.touch(l.owners.all()...)
	for range l.wake {
		for name, ok := l.next(); ok; name, ok = l.next() {
			var links []string
			if seen, there := l.finder.Record(name); there {
				links = rootdev.Names(l.sys, seen)
			}
			if err := l.links.Set(name, links); err != nil {
				l.warnf("%v", err)
			}
			if err := l.owners.set(name); err != nil {
				l.warnf("%v", err)
			}
		}
	}
}

// next takes a name off the list.
func (l *linker) next() (name string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) == 0 {
		return "", false
	}
	name = l.pending[0]
	l.pending = l.pending[1:]
	delete(l.waiting, name)
	return name, true
}
