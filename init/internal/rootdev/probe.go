package rootdev

import (
	"errors"
	"fmt"
	"io"
)

// Info is what the superblock of a device says, in the spelling of blkid.
type Info struct {
	Type    string // "ext4"; "" if nothing is known
	Usage   Usage
	UUID    string // as printed; "" if it has none or it is all zero
	Label   string // raw bytes without NUL, so hostile; "" if it has none
	Version string
}

// A Usage is blkid's USAGE: what kind of thing a signature stands for.
type Usage string

// The usages that Probe reports.
const (
	Filesystem Usage = "filesystem"
	Other      Usage = "other" // parts of a file system, such as an external journal
)

// Errors of Probe. Another one comes from the reader.
var (
	ErrUnknown = errors.New("no file system that is known here")
	ErrDamaged = errors.New("wrong checksum in the superblock")
)

// maxRead bounds what one Probe reads, whatever the device says about itself.
const maxRead = 1 << 20

// A format is one kind of content that Probe can tell.
type format struct {
	magicAt int64 // offset of magic on the device
	magic   string
	// read looks at the rest, once the magic is there. It returns errNot if it is something else.
	read func(d *device) (Info, error)
}

// formats returns all formats, in the order in which they are tried. The first one that fits wins.
func formats() []format {
	return []format{
		{magicAt: extOffset + extMagicAt, magic: "\x53\xef", read: readExt},
	}
}

// errNot says that a device is not of the format in question. A device too short for it is not either.
var errNot = errors.New("another format")

// Probe tells what r, a device of size bytes, holds, by the rules of blkid -p. It reads at most 1 MiB.
//
// Device contents are hostile: any bytes give an Info or an error. ErrUnknown means that no format fits,
// ErrDamaged that one would but for its checksum: the kernel would not mount it and its names may be wrong.
// An I/O error is returned as it is, since then nobody knows what the device holds.
func Probe(r io.ReaderAt, size int64) (Info, error) {
	d := &device{r: r, size: size, budget: maxRead}
	verdict := ErrUnknown
	for _, f := range formats() {
		magic, err := d.read(f.magicAt, len(f.magic))
		if err == nil && string(magic) == f.magic {
			var info Info
			if info, err = f.read(d); err == nil {
				return info, nil
			}
		}
		if err == nil || errors.Is(err, errNot) {
			continue
		}
		if !errors.Is(err, ErrDamaged) {
			return Info{}, err
		}
		verdict = err
	}
	return Info{}, verdict
}

// A device is read with bounds and a budget.
type device struct {
	r      io.ReaderAt
	size   int64
	budget int
}

// read returns the n bytes at off, n being a constant of the caller and not a figure from the device. It
// returns errNot where the device ends before, also where its true end comes before its stated one.
func (d *device) read(off int64, n int) ([]byte, error) {
	if off < 0 || d.size < int64(n) || off > d.size-int64(n) {
		return nil, errNot
	}
	if d.budget -= n; d.budget < 0 {
		return nil, fmt.Errorf("probe wants more than %d bytes", maxRead)
	}
	buf := make([]byte, n)
	got, err := d.r.ReadAt(buf, off)
	switch {
	case got == n:
		return buf, nil
	case err == nil || errors.Is(err, io.EOF):
		return nil, errNot
	}
	return nil, fmt.Errorf("read %d bytes at %d: %w", n, off, err)
}
