// Package report is the account of a boot: what was asked, loaded and refused,
// and when. The engine writes it to /run/hapax/boot.json, which the real root
// keeps, and on request as one line to the console.
package report

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hapax/init/internal/tojson"
	"hapax/modload"
)

// Path is where the report of the running system lies.
const Path = "/run/hapax/boot.json"

// A Summary is what fits on one line. It counts what happened, so a field that
// ought to be 0 can be something else.
type Summary struct {
	Requests   int     `json:"requests"`   // requests for modules, from all sources
	Coalesced  int     `json:"coalesced"`  // of these, answered by what the table held already
	Finit      int     `json:"finit"`      // finit_module calls
	Live       int     `json:"live"`       // modules that a call brought in
	Refused    int     `json:"refused"`    // modules whose init function said no
	Failed     int     `json:"failed"`     // modules that cannot be loaded
	Duplicates int     `json:"duplicates"` // calls answered with EBUSY, ETXTBSY, or EEXIST by a module that was there
	Upcalls    int     `json:"upcalls"`    // requests of the kernel itself
	Overruns   int     `json:"overruns"`   // times that the kernel dropped uevents
	SettleMS   float64 `json:"settle_ms"`  // from the engine's start until it first settled; 0: not settled

	Unmatched  int `json:"unmatched"`         // requests for which the index has no module
	Retried    int `json:"retried"`           // refused modules tried again for a new device
	UpcallHits int `json:"upcalls_coalesced"` // of these, answered by what the table held already
	Removed    int `json:"removed"`           // modules taken out of the kernel
	Loops      int `json:"loops"`             // waits broken off because they led back to their asker
	Overdue    int `json:"overdue"`           // requests of the kernel given up after 30 s
	Abandoned  int `json:"abandoned"`         // modules left to the real root
	Devices    int `json:"devices"`           // devices that the last sysfs walk reported
	Events     int `json:"events"`            // uevents received
	Restarts   int `json:"restarts"`          // times that the guard had to start the engine again
}

// A Boot is the whole report.
type Boot struct {
	Version string `json:"version"`
	Kernel  string `json:"kernel"` // uname -r
	Cmdline string `json:"cmdline"`
	Summary
	Clock   Clock            `json:"clock"`
	Root    *Root            `json:"root,omitempty"`
	Modules []modload.Module `json:"modules"`

	Unserved []Unserved `json:"unserved,omitempty"`
}

// An Unserved is an alias of a device for which the image has no module.
// Drivers that are part of the kernel need not have an alias, so the device may
// work all the same.
type Unserved struct {
	Device  string   `json:"device"` // DEVPATH of the first device that has it
	Alias   string   `json:"alias"`
	Modules []string `json:"modules,omitempty"` // that would serve it and were left out of the image
}

// A Clock holds the marks of the boot in milliseconds of CLOCK_BOOTTIME; 0 is
// a mark that was not reached. Times of Modules count from Engine.
type Clock struct {
	Engine   float64 `json:"engine"`   // the engine's main function
	Index    float64 `json:"index"`    // module index open, uevent socket bound
	Walked   float64 `json:"walked"`   // first sysfs walk over
	Settled  float64 `json:"settled"`  // first time
	Found    float64 `json:"found"`    // root device found
	Mounted  float64 `json:"mounted"`  // root mounted
	Handover float64 `json:"handover"` // loads drained, engine about to end
}

// A Root says what was mounted.
type Root struct {
	Ref    string `json:"ref"` // root=, as written
	Device string `json:"device"`
	Type   string `json:"type"`
	UUID   string `json:"uuid,omitempty"`
	Label  string `json:"label,omitempty"`
}

// Now returns CLOCK_BOOTTIME in milliseconds.
func Now() float64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return float64(ts.Nano()/1000) / 1000
}

// Line returns the line for the console, with its newline.
func (s Summary) Line() string {
	return "hapax-report: " + string(tojson.Marshal(s)) + "\n"
}

// WriteFile puts the report at path in one step, so that a reader never sees
// half of it.
func (b *Boot) WriteFile(path string) error {
	data := tojson.Marshal(b)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
