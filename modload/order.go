package modload

import "strings"

// urgent reports whether the file of a module lies where the way to a root
// device leads: buses, storage and file systems. What such a module needs is
// urgent too, wherever it lies.
func urgent(path string) bool {
	if strings.HasPrefix(path, "kernel/fs/") {
		return true
	}
	path, ok := strings.CutPrefix(path, "kernel/drivers/")
	if !ok {
		return false
	}
	dir, rest, _ := strings.Cut(path, "/")
	switch dir {
	case "ata", "block", "cdrom", "dax", "firewire", "hv", "md", "memstick", "message", "mmc", "mtd",
		"nvdimm", "nvme", "pci", "phy", "scsi", "ufs", "virtio", "xen":
		return true
	case "usb":
		dir, _, _ = strings.Cut(rest, "/")
		return dir == "core" || dir == "common" || dir == "host" || dir == "storage" || dir == "dwc3"
	}
	return false
}

// A haste is the class of a record in the order of loads.
type haste uint8

const (
	calmHaste    haste = iota
	urgentHaste        // before the others
	expressHaste       // at once, for a thread of the kernel is held up by it
)

// requestHaste is that of a Request.
func requestHaste(k Kind) haste {
	if k == Named {
		return urgentHaste
	}
	return calmHaste
}

// hasten gives r at least the haste h, with all that it waits for. One that is
// queued in a lower class is queued again; pop passes over the second of two
// places.
func (s *Scheduler) hasten(r *record, h haste) {
	if r.haste >= h || r.state > Queued {
		return
	}
	r.haste = h
	if r.state == Queued {
		r.state = Waiting
		s.queue.n--
		s.ready(r)
	}
	for _, e := range r.needs {
		s.hasten(e.to, h)
	}
}

// A queue holds the records that could be loaded now: the urgent ones come
// first, and among equals the one that was ready first.
type queue struct {
	first, then fifo
	n           int // records in state Queued
}

func (q *queue) push(r *record) {
	if r.haste >= urgentHaste {
		q.first.push(r)
	} else {
		q.then.push(r)
	}
}

// pop returns nil if the queue is empty.
func (q *queue) pop() *record {
	for {
		r := q.first.pop()
		if r == nil {
			r = q.then.pop()
		}
		if r == nil {
			return nil
		}
		if r.state == Queued {
			q.n--
			return r
		}
	}
}

// A fifo is a queue of records in the order of their arrival.
type fifo struct {
	items []*record
	head  int
}

func (f *fifo) push(r *record) { f.items = append(f.items, r) }

func (f *fifo) pop() *record {
	if f.head == len(f.items) {
		return nil
	}
	r := f.items[f.head]
	f.items[f.head] = nil
	if f.head++; f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
	return r
}
