package rootdev

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Devno is the number of a device.
type Devno struct{ Major, Minor uint32 }

func (d Devno) String() string { return strconv.Itoa(int(d.Major)) + ":" + strconv.Itoa(int(d.Minor)) }

// A Device is a block device as its uevent describes it.
type Device struct {
	Name      string // DEVNAME, below /dev: "vda1", "cciss/c0d0"
	Devno     Devno
	Partition bool
	DevPath   string // "/devices/pci0000:00/0000:00:03.0/virtio0/block/vda/vda1"
	Diskseq   string // "" if the kernel has none
}

// parent returns the disk that the partition d is on, and its number there, as the kernel makes the names
// of partitions: the number follows the disk's name, after a 'p' if that ends in a digit
// (block/partitions/core.c). It returns "" for a disk.
func (d Device) parent() (disk string, number int) {
	if !d.Partition {
		return "", 0
	}
	disk = strings.TrimRightFunc(d.Name, digit)
	number, err := strconv.Atoi(d.Name[len(disk):])
	if err != nil {
		return "", 0
	}
	if n := len(disk); n >= 2 && disk[n-1] == 'p' && digit(rune(disk[n-2])) {
		disk = disk[:n-1]
	}
	return disk, number
}

// A Seen is the record of one device that was offered.
type Seen struct {
	Device
	Info
	Size      int64  // in bytes
	Part      Part   // the entry of its disk's partition table; zero if it is no partition or that is not known
	Scheme    string // type of that table
	Duplicate bool   // it fits the reference too, but another device came first
	Err       error  // why Info is empty

	table *Table
	links []string // for ByLink: what Names gives
}

// Table returns the partition table on the device, nil without one. It must not be changed.
func (s Seen) Table() *Table { return s.table }

// String returns one printable line, for the report of a root that did not appear.
func (s Seen) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d bytes", printable(s.Name), s.Size)
	switch {
	case s.Err != nil:
		fmt.Fprintf(&b, ": %v", s.Err)
	case s.Type == "" && s.TableType != "":
		fmt.Fprintf(&b, ", %s partition table", s.TableType)
	default:
		fmt.Fprintf(&b, ", %s", s.Type)
	}
	for _, id := range []struct{ key, value string }{
		{"UUID", s.UUID}, {"LABEL", s.Label}, {"PARTUUID", s.Part.UUID}, {"PARTLABEL", s.Part.Name},
	} {
		if id.value != "" {
			b.WriteString(", " + id.key + "=" + printable(id.value))
		}
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
	return fmt.Sprintf("%s is %v too, but %s came first and stays the root: give one of them other UUIDs and labels, or name one by root=/dev/NAME",
		e.Second, e.Ref, e.First)
}

// An Opener opens the device it was made for and tells its size in bytes. A reader that is an io.Closer is
// closed after the probe.
type Opener = func() (r io.ReaderAt, size int64, err error)

// A Finder decides which of the devices it is offered is the root, and keeps what it saw of the others.
// All methods may be called concurrently.
type Finder struct {
	ref Ref
	sys SysFS

	mu   sync.Mutex       // protects what follows; never held while a device is read
	root string           // name of the device that matched, "" if none has
	seen map[string]*Seen // by name
	// parts has the names of the partitions that were offered by that of their disk, which need not have been.
	// Machines with thousands of disks are why it is kept.
	parts map[string][]string
}

// New returns a Finder for the device that ref names. The zero Ref matches nothing: such a Finder
// only keeps records. sys is the file system at /sys, from which the links of a device are named; nil if
// nothing is looked for by a link.
func New(ref Ref, sys SysFS) *Finder {
	return &Finder{ref: ref, sys: sys, seen: make(map[string]*Seen), parts: make(map[string][]string)}
}

// Offer probes dev, whose contents open gives, and reports whether the root is there now. It does so once:
// the first Offer to finish with a match wins, and of all later ones, for the same device too, none matches
// until Remove takes the winner away. A device offered again is probed again.
//
// For a reference to a partition the table of its disk has to be known, so the Offer that matches can be
// that of the disk: Root tells which device it is. A device named by its name, its number or as a partition
// matches whatever it holds, as long as it can be opened and read.
//
// The error says why dev could not be probed, or is a *DuplicateError; both are recorded as well. That a
// device holds nothing known is no error here.
func (f *Finder) Offer(dev Device, open Opener) (match bool, err error) {
	if err := checkName(dev.Name); err != nil {
		return false, err
	}
	s := Seen{Device: dev}
	probeOpened(&s, open)
	if f.ref.Kind == ByLink && f.sys != nil {
		s.links = Names(f.sys, s)
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[dev.Name] = &s
	if disk, _ := dev.parent(); disk != "" && !slices.Contains(f.parts[disk], dev.Name) {
		f.parts[disk] = append(f.parts[disk], dev.Name)
		slices.Sort(f.parts[disk])
	}
	if s.Err != nil && !errors.Is(s.Err, ErrUnknown) {
		err = fmt.Errorf("probe %s: %w", dev.Name, s.Err)
	}
	match, claimErr := f.claim(&s)
	err = cmp.Or(claimErr, err)
	if dev.Partition {
		return match, err
	}
	for _, name := range f.parts[dev.Name] {
		if s := f.seen[name]; s != nil { // one name may have been that of several devices
			m, claimErr := f.claim(s)
			match, err = match || m, cmp.Or(claimErr, err)
		}
	}
	return match, err
}

// sorted returns the records by name.
func (f *Finder) sorted() []*Seen {
	names := make([]string, 0, len(f.seen))
	for name := range f.seen {
		names = append(names, name)
	}
	slices.Sort(names)
	all := make([]*Seen, len(names))
	for i, name := range names {
		all[i] = f.seen[name]
	}
	return all
}

// claim completes s by what its disk says, and makes it the root if it fits and there is none yet.
func (f *Finder) claim(s *Seen) (match bool, err error) {
	disk, number := s.parent()
	s.Part, s.Scheme = Part{}, ""
	if d := f.seen[disk]; d != nil && d.table != nil {
		if p, ok := d.table.ByNumber(number); ok {
			s.Part, s.Scheme = p, d.table.Type
		}
	}
	s.Duplicate = false
	switch {
	case !f.isRoot(s) || f.root == s.Name:
		return false, nil
	case f.root == "":
		f.root = s.Name
		return true, nil
	}
	s.Duplicate = true
	return false, &DuplicateError{f.ref, f.root, s.Name}
}

// probeOpened records in s what open gives.
func probeOpened(s *Seen, open Opener) {
	r, size, err := open()
	if s.Err = err; err != nil {
		return
	}
	if c, ok := r.(io.Closer); ok {
		defer c.Close() // read only: nothing can be lost
	}
	var info *Info
	info, s.table, s.Err = inspect(r, size)
	s.Info, s.Size = *info, size
}

// isRoot reports whether s is what the reference names. Only a file system can be the root: swap space, or
// the members of an array, may carry the same label.
func (f *Finder) isRoot(s *Seen) bool {
	if kind := f.ref.Kind; (kind == ByUUID || kind == ByLabel) && s.Usage != Filesystem {
		return false
	}
	return f.fits(f.ref, s)
}

// fits reports whether ref names s.
func (f *Finder) fits(ref Ref, s *Seen) bool {
	switch ref.Kind {
	case ByUUID:
		return s.named() && strings.EqualFold(s.UUID, ref.Value)
	case ByLabel:
		return s.named() && s.Label == ref.Value
	}
	if !s.readable() {
		return false
	}
	switch ref.Kind {
	case ByName:
		return s.Name == ref.Value
	case ByDevno:
		return s.Devno == ref.Devno
	case ByPartLabel:
		return s.Part.Name == ref.Value
	case ByLink:
		return slices.Contains(s.links, ref.Value)
	case ByPartUUID, ByGPTAuto:
		return f.fitsTable(ref, s)
	}
	return false
}

// fitsTable reports whether s is the partition that ref finds in the table of its disk.
func (f *Finder) fitsTable(ref Ref, s *Seen) bool {
	disk, number := s.parent()
	d := f.seen[disk]
	if d == nil {
		return false
	}
	if ref.Kind == ByGPTAuto {
		p, ok := d.table.AutoRoot(runtime.GOARCH, ref.Value)
		return ok && p.Number == number
	}
	p, ok := d.table.ByUUID(ref.Value)
	return ok && p.Number+ref.Offset == number
}

// named reports whether the UUID and label of s are names of s itself, not of an array or a container.
func (s *Seen) named() bool { return s.Usage == Filesystem || s.Usage == Other }

// readable reports whether the device could be read, whatever is on it: mount(2) has the last word on that.
func (s *Seen) readable() bool {
	return s.Err == nil || errors.Is(s.Err, ErrUnknown) || errors.Is(s.Err, ErrDamaged) || errors.Is(s.Err, ErrAmbiguous)
}

// Remove drops the record of the device of that name, after its remove event. If it was the root, the
// place is free again, and its duplicates are returned: one of them takes it when it is offered again. A
// name never offered is ignored.
func (f *Finder) Remove(name string) (duplicates []Device) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.seen[name]; s != nil {
		disk, _ := s.parent()
		rest := f.parts[disk][:0]
		for _, part := range f.parts[disk] {
			if part != name {
				rest = append(rest, part)
			}
		}
		if f.parts[disk] = rest; len(rest) == 0 {
			delete(f.parts, disk)
		}
	}
	delete(f.seen, name)
	if f.root != name {
		return nil
	}
	f.root = ""
	for _, s := range f.sorted() {
		if s.Duplicate {
			duplicates = append(duplicates, s.Device)
		}
	}
	return duplicates
}

// Lookup returns the first device by name that ref names, swap space included, and false if none was
// offered so far.
func (f *Finder) Lookup(ref Ref) (Seen, bool) {
	if ref.Kind == ByLink && f.sys != nil {
		for _, s := range f.Seen() {
			if s.readable() && slices.Contains(Names(f.sys, s), ref.Value) {
				return s, true
			}
		}
		return Seen{}, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sorted() {
		if f.fits(ref, s) {
			return *s, true
		}
	}
	return Seen{}, false
}

// Record returns the record of the device of that name, and false if there is none.
func (f *Finder) Record(name string) (Seen, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.seen[name]; s != nil {
		return *s, true
	}
	return Seen{}, false
}

// Partitions returns the names of the partitions of a disk that were offered, sorted.
func (f *Finder) Partitions(disk string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.parts[disk]...)
}

// Root returns the record of the device that matched, and false if none has.
func (f *Finder) Root() (Seen, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.seen[f.root]; s != nil {
		return *s, true
	}
	return Seen{}, false
}

// Seen returns the records of all devices that were offered and not removed, sorted by name.
func (f *Finder) Seen() []Seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]Seen, 0, len(f.seen))
	for _, s := range f.sorted() {
		all = append(all, *s)
	}
	return all
}
