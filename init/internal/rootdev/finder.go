package rootdev

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// Devno is the number of a device.
type Devno struct{ Major, Minor uint32 }

// A Device is a block device as its uevent describes it.
type Device struct {
	Name      string // DEVNAME, below /dev: "vda1", "cciss/c0d0"
	Devno     Devno
	Partition bool
}

// A Seen is the record of one device that was offered.
type Seen struct {
	Device
	Info
	Size      int64 // in bytes
	Duplicate bool  // it fits the reference too, but another device came first
	Err       error // why Info is empty
}

// String returns one printable line, for the report of a root that did not appear.
func (s Seen) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d bytes", printable(s.Name), s.Size)
	if s.Err != nil {
		fmt.Fprintf(&b, ": %v", s.Err)
		return b.String()
	}
	fmt.Fprintf(&b, ", %s", s.Type)
	if s.UUID != "" {
		b.WriteString(", UUID=" + s.UUID)
	}
	if s.Label != "" {
		b.WriteString(", LABEL=" + printable(s.Label))
	}
	if s.Duplicate {
		b.WriteString(", duplicate")
	}
	return b.String()
}

// A DuplicateError reports a second device that fits the reference. Which of the two was meant cannot be
// known, so the first stays the root and the second is left alone.
type DuplicateError struct {
	Ref           Ref
	First, Second string // device names
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("%s is %v too, but %s came first and stays the root: give one of them another UUID and label, or name one by root=/dev/NAME",
		e.Second, e.Ref, e.First)
}

// An Opener opens the device it was made for and tells its size in bytes. A reader that is an io.Closer is
// closed after the probe.
type Opener = func() (r io.ReaderAt, size int64, err error)

// A Finder decides which of the devices it is offered is the root, and keeps what it saw of the others.
// All methods may be called concurrently.
type Finder struct {
	ref Ref

	mu   sync.Mutex // protects what follows; never held while a device is read
	root string     // name of the device that matched, "" if none has
	seen map[string]Seen
}

// New returns a Finder for the device that ref names. The zero Ref matches nothing: such a Finder
// only keeps records.
func New(ref Ref) *Finder { return &Finder{ref: ref, seen: make(map[string]Seen)} }

// Offer probes dev, whose contents open gives, and reports whether it is the root. It does so once: the
// first Offer to finish with a match wins, and of all later ones, for the same device too, none matches
// until Remove takes the winner away. A device offered again is probed again.
//
// A device named by root=/dev/NAME matches whatever it holds, as long as it can be opened and read.
// The error says why dev could not be probed, or is a *DuplicateError; both are recorded as well. That a
// device holds nothing known is no error here.
func (f *Finder) Offer(dev Device, open Opener) (match bool, err error) {
	if err := checkName(dev.Name); err != nil {
		return false, err
	}
	s := Seen{Device: dev}
	s.Info, s.Size, s.Err = probeOpened(open)
	unknown := errors.Is(s.Err, ErrUnknown)
	fits := f.fits(&s)

	f.mu.Lock()
	defer f.mu.Unlock()
	first := f.root
	switch {
	case fits && first == "":
		f.root, match = dev.Name, true
	case fits && first != dev.Name:
		s.Duplicate = true
		err = &DuplicateError{f.ref, first, dev.Name}
	case s.Err != nil && !unknown:
		err = fmt.Errorf("probe %s: %w", dev.Name, s.Err)
	}
	f.seen[dev.Name] = s
	return match, err
}

// probeOpened probes what open gives.
func probeOpened(open Opener) (Info, int64, error) {
	r, size, err := open()
	if err != nil {
		return Info{}, 0, err
	}
	if c, ok := r.(io.Closer); ok {
		defer c.Close() // read only: nothing can be lost
	}
	info, err := Probe(r, size)
	return info, size, err
}

// fits reports whether s is what the reference names.
func (f *Finder) fits(s *Seen) bool {
	switch f.ref.Kind {
	case ByName:
		return s.Name == f.ref.Value && (s.Err == nil || errors.Is(s.Err, ErrUnknown) || errors.Is(s.Err, ErrDamaged))
	case ByUUID:
		return s.Usage == Filesystem && strings.EqualFold(s.UUID, f.ref.Value)
	case ByLabel:
		return s.Usage == Filesystem && s.Label == f.ref.Value
	}
	return false
}

// Remove drops the record of the device of that name, after its remove event. If it was the root, the
// place is free again; a duplicate takes it when it is offered again. A name never offered is ignored.
func (f *Finder) Remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.seen, name)
	if f.root == name {
		f.root = ""
	}
}

// Root returns the record of the device that matched, and false if none has.
func (f *Finder) Root() (Seen, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.seen[f.root]
	return s, ok
}

// Seen returns the records of all devices that were offered and not removed, sorted by name.
func (f *Finder) Seen() []Seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]Seen, 0, len(f.seen))
	for _, s := range f.seen {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Seen) int { return strings.Compare(a.Name, b.Name) })
	return all
}
