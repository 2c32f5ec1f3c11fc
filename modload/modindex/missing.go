package modindex

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
)

// missingFile is the index of what an image left out, in its lib/modules/RELEASE.
const missingFile = "hapax.missing.bin"

// maxMissing bounds the file, and with it the work of a look-up. That of a whole kernel has 0.6 MB.
const maxMissing = 16 << 20

// MissingFile returns the index of the modules of src that an image with the
// kept ones does not have, by the aliases of devices, as a file for its
// lib/modules/RELEASE. It goes with what Reduce returns for the same names, which
// may be in either spelling, and OpenMissing reads it. When nothing was left
// out, the file has no keys. Damage in src is an error.
//
// The file has the format of modules.alias.bin, but nodes that are the same are
// written once, which no reader notices. A driver's patterns differ in the
// numbers of the device and end alike, "sv*sd*bc*sc*i*" with its name, so that
// halves the file.
func MissingFile(src *Index, kept []string) (File, error) {
	keep := make(map[string]bool, len(kept))
	for _, name := range kept {
		keep[Normalize(name)] = true
	}
	data, err := src.encodeMissing(keep)
	if err == nil {
		err = src.Err()
	}
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", missingFile, err)
	}
	return File{missingFile, data}, nil
}

// encodeMissing encodes the device aliases of all modules but those in keep.
func (x *Index) encodeMissing(keep map[string]bool) ([]byte, error) {
	defer x.caught(debug.SetPanicOnFault(true))
	left := slices.DeleteFunc(x.aliases.entries(), func(e entry) bool {
		return keep[string(e.text)] || !ofDevice(e.key)
	})
	slices.Reverse(left) // as in subset
	e := encoder{written: map[writtenNode]uint32{}}
	return e.file(left)
}

// ofDevice reports whether a pattern may cover the modalias of a device. Every
// bus of the kernel puts its name and a colon in front (scripts/mod/file2alias.c
// has them all), while what the kernel itself asks for is joined by dashes:
// "fs-ext4", "crypto-aes", "net-pf-10", "char-major-10-229". The families that
// have a colon too, "devname:" and a few in netfilter and for gadgets, are some
// fifty patterns. They cost less than the list of all buses, which grows with
// each release, and no device ever asks for them.
func ofDevice(pattern string) bool { return strings.IndexByte(pattern, ':') >= 0 }

// A Missing answers which modules an image left out. It is for a report and not
// on the way of any load. Any number of goroutines may use it.
type Missing struct {
	x Index // with aliases and nothing else
}

// OpenMissing opens what MissingFile returned, in dir, the lib/modules/RELEASE of an
// image. A folder without the file, such as that of a whole distribution, gives
// an error that is fs.ErrNotExist. The file is mapped, and no more than its
// header is read.
func OpenMissing(dir string) (*Missing, error) {
	m := newMissing(dir)
	file := filepath.Join(dir, missingFile)
	var err error
	if m.x.aliases, err = m.x.mapTrie(file); err == nil && len(m.x.aliases.data) > maxMissing {
		err = fmt.Errorf("%s: more than %d bytes", file, maxMissing)
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func newMissing(dir string) *Missing {
	return &Missing{Index{dir: dir, searches: sync.Pool{New: func() any { return new(search) }}}}
}

// Lookup returns the modules that would serve a device with this modalias, each
// once, in the order of modules.order; nil if there are none. What the image
// has is never among them.
func (m *Missing) Lookup(modalias string) []string { return m.x.Lookup(modalias).Names }

// Err returns the first damage that a Lookup met, nil if there was none. That Lookup found nothing.
func (m *Missing) Err() error { return m.x.Err() }

// Close releases the file. What Lookup has returned stays valid; it must not be called again.
func (m *Missing) Close() error { return m.x.Close() }
