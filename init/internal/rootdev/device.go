package rootdev

import (
	"errors"
	"fmt"
	"io"
)

const (
	// maxRead bounds what one Probe reads, whatever the device says about itself.
	maxRead = 1 << 20
	// frontSize is the part of a device that is read at once: all superblocks at fixed places but those at
	// the end lie within it, the one of btrfs last.
	frontSize = btrfsOffset + 4096
)

// A device is read with bounds and a budget.
type device struct {
	r      io.ReaderAt
	size   int64
	sector int // logical sector size in bytes
	budget int

	front  []byte // the first bytes, once they are read
	fronts bool   // whether they are

	parsed   *Table // the answer of table
	tableErr error  // nil until it is known
}

func newDevice(r io.ReaderAt, size int64) *device {
	d := &device{r: r, size: size, sector: 512, budget: maxRead}
	if s, ok := r.(SectorSizer); ok {
		switch n := s.SectorSize(); n {
		case 1024, 2048, 4096:
			d.sector = n
		}
	}
	return d
}

// read returns the n bytes at off, which the caller must not change. off may be any figure from the device,
// n is one that the caller has bounded. It returns errNot where the device ends before, also where its true
// end comes before its stated one.
func (d *device) read(off uint64, n int) ([]byte, error) {
	if n < 0 || d.size < int64(n) || off > uint64(d.size-int64(n)) {
		return nil, errNot
	}
	if !d.fronts {
		d.fronts = true
		if err := d.fetchFront(); err != nil {
			return nil, err
		}
	}
	if end := off + uint64(n); end <= uint64(len(d.front)) {
		return d.front[off:end:end], nil
	}
	return d.fetch(off, n)
}

// fetchFront reads the front. If that fails the device may still be good where it matters, so it is read
// piece by piece from then on.
func (d *device) fetchFront() error {
	n := int(min(d.size, frontSize))
	if d.budget -= n; d.budget < 0 {
		return errBudget
	}
	buf := make([]byte, n)
	got, _ := d.r.ReadAt(buf, 0)
	d.front = buf[:max(0, min(got, n))]
	return nil
}

func (d *device) fetch(off uint64, n int) ([]byte, error) {
	if d.budget -= n; d.budget < 0 {
		return nil, errBudget
	}
	buf := make([]byte, n)
	got, err := d.r.ReadAt(buf, int64(off))
	switch {
	case got == n:
		return buf, nil
	case err == nil || errors.Is(err, io.EOF):
		return nil, errNot
	}
	return nil, fmt.Errorf("read %d bytes at %d: %w", n, off, err)
}

var errBudget = fmt.Errorf("probe wants more than %d bytes", maxRead)
