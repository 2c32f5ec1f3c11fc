// Package report is the account of the storm bench: what each contender cost, what was promised of hapax, and both as text
// and as JSON.
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hapax/tests/internal/guest"
	"hapax/tests/storm/modstats"
)

// A Run is one boot of one guest. Two runs of the same Kernel, CPUs and Memory differ in the contender alone.
type Run struct {
	Kernel    string `json:"kernel"`  // short name
	Release   string `json:"release"` // what uname -r prints
	CPUs      int    `json:"cpus"`
	Memory    int    `json:"memory_mib"`
	Contender string `json:"contender"`

	Seconds   float64         `json:"seconds"`            // guest time from its start to settled
	Trace     guest.Trace     `json:"trace"`              // the system calls that insert modules
	Stats     *modstats.Stats `json:"stats,omitempty"`    // nil: the kernel keeps none
	Modules   []string        `json:"modules"`            // live at the end, in the order in which they were inserted
	Use       guest.Use       `json:"use"`                // at the time when it had settled
	Hapax     *Hapax          `json:"hapax,omitempty"`    // its own counts
	Boot      json.RawMessage `json:"boot,omitempty"`     // its whole boot report
	HotPlugs  int             `json:"hotplugs,omitempty"` // devices that came after it had settled
	BootedAt  float64         `json:"booted_at"`          // guest time since boot when it started
	HostTime  float64         `json:"host_seconds"`       // time that the whole run took here
	Emulated  bool            `json:"emulated"`           // TCG: times are those of a machine that does not exist
	Counted   bool            `json:"counted"`            // the guest's clock counted instructions, 1 ns for each
	StartedAt time.Time       `json:"started_at"`
}

// Hapax is the part of hapax's boot report that the bench looks at.
type Hapax struct {
	Requests   int `json:"requests"`
	Coalesced  int `json:"coalesced"`
	Finit      int `json:"finit"`
	Live       int `json:"live"`
	Refused    int `json:"refused"`
	Retried    int `json:"retried"`
	Duplicates int `json:"duplicates"`
	Overruns   int `json:"overruns"`
	Restarts   int `json:"restarts"`
	Events     int `json:"events"`
	Devices    int `json:"devices"`
}

// Calls returns the number of system calls that were meant to insert a module.
func (r *Run) Calls() int { return r.Trace.Finit.Total + r.Trace.Init.Total }

// Results returns how many of the calls ended with one of the results, as guest.Calls names them.
func (r *Run) Results(names ...string) int {
	n := 0
	for _, name := range names {
		n += r.Trace.Finit.Results[name] + r.Trace.Init.Results[name]
	}
	return n
}

// Duplicates returns the number of calls for a module that was there already or on its way, as user space saw it. From
// Linux 6.5 on most of them look like a success.
func (r *Run) Duplicates() int { return r.Results("EEXIST", "EBUSY", "ETXTBSY") - r.existsRefusals() }

// Refusals returns the number of calls that the module's init function answered with a no.
func (r *Run) Refusals() int { return r.Results("ENODEV", "ENXIO", "EOPNOTSUPP") + r.existsRefusals() }

// existsRefusals returns the number of calls that a module's own init function answered with EEXIST, as the second of two
// cpufreq drivers does. Only hapax's report tells them from calls for modules that were there.
func (r *Run) existsRefusals() int {
	var boot struct {
		Modules []struct{ State, Error string }
	}
	if r.Boot == nil || r.Hapax == nil || json.Unmarshal(r.Boot, &boot) != nil {
		return 0
	}
	modules := 0
	for _, m := range boot.Modules {
		if m.State == "refused" && strings.HasSuffix(m.Error, unix.EEXIST.Error()) {
			modules++
		}
	}
	if modules == 0 {
		return 0
	}
	return min(modules+r.Hapax.Retried, r.Results("EEXIST"))
}

// InVain returns the number of calls that did not bring a module in.
func (r *Run) InVain() int { return r.Calls() - len(r.Modules) }

// Peak returns the memory in bytes that the contender took at its worst, modules included.
func (r *Run) Peak() int64 { return r.Use.Before - r.Use.Low }

// A File is what is kept of several runs.
type File struct {
	Command string `json:"command"` // that made it
	Host    string `json:"host"`    // what it ran on
	Runs    []*Run `json:"runs"`
}

// Write puts the file at path in one step.
func (f *File) Write(path string) error {
	text, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// Read reads what Write has written.
func Read(path string) (*File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := new(File)
	if err := json.Unmarshal(text, f); err != nil {
		return nil, fmt.Errorf("%s: %w (remove it to begin anew)", path, err)
	}
	return f, nil
}

// Put adds a run, in the place of an earlier one of the same kernel, processors and contender.
func (f *File) Put(r *Run) {
	f.Runs = slices.DeleteFunc(f.Runs, func(old *Run) bool {
		return old.Kernel == r.Kernel && old.CPUs == r.CPUs && old.Contender == r.Contender
	})
	f.Runs = append(f.Runs, r)
}

// peer returns the run of another contender on the same machine, nil if there is none.
func (f *File) peer(r *Run, contender string) *Run {
	for _, other := range f.Runs {
		if other.Kernel == r.Kernel && other.CPUs == r.CPUs && other.Contender == contender {
			return other
		}
	}
	return nil
}

// ofOracle returns by how much r took longer than the oracle on the same machine. Times of two clocks are no ratio.
func (f *File) ofOracle(r *Run) (ratio float64, ok bool) {
	o := f.peer(r, guest.Oracle)
	if o == nil || o.Seconds <= 0 || o.Counted != r.Counted {
		return 0, false
	}
	return r.Seconds / o.Seconds, true
}

// Account enters the kernel's own account, "" for none.
func (r *Run) Account(text string) error {
	if text == "" {
		return nil
	}
	s, err := modstats.Parse(text)
	if err != nil {
		return err
	}
	r.Stats = &s
	return nil
}

// Order returns the modules in the order in which hapax, else udevd, inserted them; nil if there is no such run.
func (f *File) Order(kernel string, cpus int) []string {
	for _, contender := range []string{guest.Hapax, guest.Udevd} {
		if r := f.peer(&Run{Kernel: kernel, CPUs: cpus}, contender); r != nil {
			return r.Modules
		}
	}
	return nil
}
