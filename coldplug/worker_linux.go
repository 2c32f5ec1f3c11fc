package coldplug

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	ueventFile   = "uevent\x00"
	modaliasFile = "modalias\x00"
)

// fileSize bounds what is read of one file. The kernel limits a modalias to a page and the variables
// of a uevent to 2 KiB.
const fileSize = 8 << 10

// A worker visits directories depth first. It reuses its buffers, so that only what it reports and
// hands over is allocated.
type worker struct {
	*walk
	grow    func() // starts the helpers; nil in a helper
	stats   Stats
	path    []byte // of the directory that is visited
	subdirs []byte // names, each ended by a NUL, of the directories yet to be visited on each level
	dirents []byte
	content []byte
}

func newWorker(w *walk) *worker {
	return &worker{walk: w, dirents: make([]byte, 16<<10), content: make([]byte, fileSize)}
}

// help does the jobs that others offer until the walk is over.
func (k *worker) help() {
	for {
		k.idle.Add(1)
		j, ok := <-k.jobs
		k.idle.Add(-1)
		if !ok {
			break
		}
		k.path = append(k.path[:0], j.path...)
		k.subdirs = append(k.subdirs[:0], j.names...)
		k.descend(j.fd, j.depth, j.kind, 0)
		unix.Close(j.fd)
		k.finish()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.walk.stats.add(k.stats)
}

// visit reports the device in the directory fd at k.path and those below it, and closes fd.
func (k *worker) visit(fd, depth int) {
	defer unix.Close(fd)
	if k.ctx.Err() != nil {
		return
	}
	k.stats.Dirs++
	if k.stats.Dirs == largeWalk && k.grow != nil {
		k.grow()
	}
	top := len(k.subdirs)
	found := files{uevent: true, modalias: true, guessed: true}
	if !isLeaf(k.path) {
		found = k.list(fd)
	}
	dev, kind := k.read(fd, found)
	if dev.Modaliases != nil || dev.Block != nil {
		dev.DevPath = string(k.path)
		k.stats.Reported++
		k.report(dev)
	}
	k.descend(fd, depth, kind, top)
}

// descend visits the subdirectories of the directory fd at k.path, whose names lie on k.subdirs above
// top, and pops them. Before each one it leaves half of the others to an idle worker, if there is one.
func (k *worker) descend(fd, depth int, kind kind, top int) {
	parent := len(k.path)
	for next, end := top, len(k.subdirs); next < end; {
		if k.idle.Load() > 0 {
			end = k.share(fd, depth, kind, next, end)
		}
		name := k.subdirs[next:end]
		name = name[:bytes.IndexByte(name, 0)+1]
		next += len(name)
		if holdsNoDevice(name, kind) {
			continue
		}
		if depth == maxDepth {
			k.stats.Unreadable++
			continue
		}
		child, err := openat(fd, &name[0], openDir)
		if err != nil {
			k.note(err)
			continue
		}
		k.path = append(k.path, '/')
		k.path = append(k.path, name[:len(name)-1]...)
		k.visit(child, depth+1)
		k.path = k.path[:parent]
	}
	k.subdirs = k.subdirs[:top]
}

// share hands the second half of the names in k.subdirs[next:end] over to another worker and returns
// where the first half ends. A single name is kept, for its subdirectories can be shared.
func (k *worker) share(fd, depth int, kind kind, next, end int) int {
	middle := next + (end-next)/2
	middle += bytes.IndexByte(k.subdirs[middle:end], 0) + 1
	if middle == end {
		return end
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		k.note(err)
		return end
	}
	names := bytes.Clone(k.subdirs[middle:end])
	if !k.offer(job{fd: own, path: string(k.path), kind: kind, names: names, depth: depth}) {
		unix.Close(own)
		return end
	}
	return middle
}

// files tells which of the files of a device are in a directory.
type files struct {
	uevent, modalias bool
	guessed          bool // nobody looked: a missing file is no surprise
}

// list pushes the subdirectories of fd on k.subdirs and returns which files it has.
func (k *worker) list(fd int) files {
	var found files
	for {
		n, err := unix.Getdents(fd, k.dirents)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			k.note(err)
		}
		if n <= 0 {
			return found
		}
		for d, rest, ok := nextDirent(k.dirents[:n]); ok; d, rest, ok = nextDirent(rest) {
			switch d.typ {
			case unix.DT_DIR:
				if name := string(d.name); name != ".\x00" && name != "..\x00" {
					k.subdirs = append(k.subdirs, d.name...)
				}
			case unix.DT_REG:
				switch string(d.name) {
				case ueventFile:
					found.uevent = true
				case modaliasFile:
					found.modalias = true
				}
			}
		}
	}
}

// read reads the device in the directory fd and returns its kind as well.
//
// Each of the two files lacks aliases that the other has. Many buses and all cpuN have no modalias
// file, only a MODALIAS line in uevent. An ACPI device described in device tree style has its of: alias
// in both, but its acpi: alias in modalias alone. Where there is a modalias file it has all of them,
// so it is read first and uevent only if that gave nothing. This spares a read, and a line break in the
// product name of an input device cannot add a MODALIAS line. No block device has a modalias file.
func (k *worker) read(fd int, found files) (Device, kind) {
	if found.modalias {
		if aliases := parseModalias(k.readFile(fd, modaliasFile, found)); aliases != nil {
			return Device{Modaliases: aliases}, kindDevice
		}
	}
	if !found.uevent {
		return Device{}, kindNone
	}
	aliases, block, kind := parseUevent(k.readFile(fd, ueventFile, found))
	return Device{Modaliases: aliases, Block: block}, kind
}

// readFile returns the content of a file, which is valid until the next call, or nil if it has none.
func (k *worker) readFile(fd int, name string, found files) []byte {
	k.stats.Files++
	content, err := readFile(fd, name, k.content)
	if err != nil && !(found.guessed && err == unix.ENOENT) {
		k.note(err)
	}
	return content
}

// note counts a directory or file that could not be read. Without descriptors or memory the rest of
// the walk would fail as well, one device at a time, so that ends it.
func (k *worker) note(err error) {
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM):
		k.cancel(fmt.Errorf("coldplug: open below %s: %w", k.path, err))
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		k.stats.Vanished++
	default:
		k.stats.Unreadable++
	}
}
