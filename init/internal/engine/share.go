package engine

import (
	"hapax/init/internal/report"
	"hapax/init/internal/rootdev"
	"hapax/uevent"
)

// share mounts a share of the host as the root. Its tag is that of a device
// which the kernel tells nobody about before 6.9, so the mount itself is the
// question, asked again for each virtio device that has got its driver.
func (h *hunt) share() {
	fstype, flags := "virtiofs", h.params.RootFlags
	if h.ref.Kind == rootdev.By9P {
		// Options of mount(8), of which the last counts.
		fstype, flags = "9p", "trans=virtio,version=9p2000.L,"+flags
	}
	if h.params.RootFSType != "" && h.params.RootFSType != "auto" {
		fstype = h.params.RootFSType
	}
	for first := true; ; first = false {
		<-h.kicked
		if first {
			h.pause("pre-mount")
			h.resume()
			h.pause("mount")
		}
		// The name of the module says what it is for, whether the device is there or not.
		if err := h.loadFS(fstype); err != nil {
			h.warnf("%v", err)
		}
		found := report.Now()
		err := h.mountFS(h.ref.Value, sysroot, fstype, flags, h.params.ReadWrite)
		if err == nil {
			h.leaving.Store(true)
			h.out <- rootResult{
				root:  &report.Root{Ref: h.params.Root, Device: h.ref.Value, Type: fstype},
				found: found, mounted: report.Now(),
			}
			return
		}
		h.refused(err)
	}
}

// refused keeps why the share is not mounted yet.
func (h *hunt) refused(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refusal = err.Error()
}

func (h *hunt) lastRefusal() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refusal
}

// kick says that a share may have come.
func (h *hunt) kick() {
	if h != nil {
		poke(h.kicked)
	}
}

// virtio looks at the event of a virtio device: bound to its driver, it can be
// a share.
func (h *hunt) virtio(ev *uevent.Event) {
	if ev.Action == uevent.Bind {
		h.kick()
	}
}
