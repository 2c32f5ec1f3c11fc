// Package profile describes a machine for whom an image is built: the modaliases of its devices, and the modules that its
// root, its keyboard and its console need. It reads that from /sys and /proc, or from the JSON of another machine.
//
// A profile holds nothing that tells one machine from another of the same kind: no serial numbers, no addresses, no UUIDs, no
// names that somebody gave.
package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// version is the format of the JSON. A reader refuses others.
const version = 1

// maxSize bounds a profile: a machine with 4,000 disks takes 300 kB.
const maxSize = 16 << 20

// A Profile is what Record learns about a machine. Every list is sorted and holds each element once.
type Profile struct {
	Version    int      `json:"version"`
	Arch       string   `json:"arch"`       // of the kernel, as GOARCH has it
	Release    string   `json:"release"`    // of the kernel that ran when it was recorded; for people
	Modaliases []string `json:"modaliases"` // of all devices
	Needs      []Need   `json:"needs"`
	CPUs       []CPU    `json:"cpus"`
}

// A Need is a module without which the machine does not boot or cannot be talked to.
type Need struct {
	Module string `json:"module"` // its name, or an alias such as "fs-ext4"
	For    string `json:"for"`    // "the root file system"
}

// A CPU tells which microcode fits.
type CPU struct {
	Vendor   string `json:"vendor"` // "GenuineIntel", "AuthenticAMD"
	Family   int    `json:"family"` // decimal, as /proc/cpuinfo has them
	Model    int    `json:"model"`
	Stepping int    `json:"stepping"`
}

// Write writes the profile as JSON.
func (p Profile) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(p)
}

// Read reads the profile in a file.
func Read(file string) (Profile, error) {
	f, err := os.Open(file)
	if err != nil {
		return Profile{}, fmt.Errorf("%w", err)
	}
	defer f.Close()
	p, err := Parse(f)
	if err != nil {
		return Profile{}, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

// Parse reads a profile. What it does not know, such as a field of a later version, is an error: an image for half a machine
// would be found out at its boot.
func Parse(r io.Reader) (Profile, error) {
	limited := &io.LimitedReader{R: r, N: maxSize + 1}
	d := json.NewDecoder(limited)
	d.DisallowUnknownFields()
	var p Profile
	err := d.Decode(&p)
	switch {
	case limited.N == 0:
		return Profile{}, fmt.Errorf("a profile has at most %d MiB", maxSize>>20)
	case err != nil:
		return Profile{}, fmt.Errorf("no profile: %w: make one with hapax profile record > FILE", err)
	case p.Version != version:
		return Profile{}, fmt.Errorf("a profile of version %d: this hapax reads version %d", p.Version, version)
	}
	if _, err := d.Token(); err != io.EOF { //nolint:errorlint // a Decoder returns it as it is
		return Profile{}, errors.New("something follows the profile: name the file of each machine with a --profile of its own")
	}
	return p.sorted(), nil
}

// sorted returns the profile in its only form, so that the same machine gives the same bytes.
func (p Profile) sorted() Profile {
	p.Modaliases = distinct(p.Modaliases, strings.Compare)
	p.Needs = distinct(p.Needs, func(a, b Need) int {
		if c := strings.Compare(a.Module, b.Module); c != 0 {
			return c
		}
		return strings.Compare(a.For, b.For)
	})
	p.CPUs = distinct(p.CPUs, func(a, b CPU) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return p
}

// distinct returns a sorted copy without repetitions, never nil.
func distinct[T comparable](list []T, compare func(a, b T) int) []T {
	sorted := slices.SortedFunc(slices.Values(list), compare)
	if sorted = slices.Compact(sorted); sorted == nil {
		sorted = []T{}
	}
	return sorted
}
