package report

import (
	"fmt"
	"slices"

	"hapax/tests/internal/guest"
)

// Bounds of what is measured rather than counted.
const (
	timeBound   = 1.15 // of the oracle's time
	memoryBound = 0.02 // of the oracle's free memory at the end
)

// elsewhere names the modules that only udevd loads, with the reason.
var elsewhere = map[string]string{
	"sg": "a rule of Debian's udev loads it by name for each SCSI device; no modalias asks for it",
}

// A Verdict is one thing that was promised of hapax, and what came of it.
type Verdict struct {
	Promise string
	Kept    bool
	Found   string
	Counted bool // true for a count, false for a measurement, which depends on the host
}

// Verdicts judges a run of hapax, or of the negative control, which has to break what hapax keeps. Promises that compare with udevd or the oracle are left out when f has no such run.
func (f *File) Verdicts(r *Run) []Verdict {
	if r.Contender == guest.Control {
		again := r.InVain() - r.Refusals()
		return []Verdict{{"without its single flight modules are inserted more than once", again > 0, fmt.Sprintf("%d calls more than modules and refusals", again), true}}
	}
	all := r.counts()
	if udevd := f.peer(r, guest.Udevd); udevd != nil {
		all = append(all, sameModules(r, udevd))
	}
	if oracle := f.peer(r, guest.Oracle); oracle != nil {
		if ratio, ok := f.ofOracle(r); ok {
			all = append(all, Verdict{Promise: fmt.Sprintf("time at most %.2f times that of the oracle", timeBound), Kept: ratio <= timeBound,
				Found: fmt.Sprintf("%.2f s, oracle %.2f s: %.2f times", r.Seconds, oracle.Seconds, ratio)})
		}
		less := 1 - float64(r.Use.Free)/float64(max(oracle.Use.Free, 1))
		all = append(all, Verdict{Promise: fmt.Sprintf("free memory within %.0f %% of the oracle's", 100*memoryBound), Kept: less <= memoryBound,
			Found: fmt.Sprintf("%.1f MB, oracle %.1f MB: %.2f %% less", mb(r.Use.Free), mb(oracle.Use.Free), 100*less)})
	}
	return all
}

// counts judges what the kernel counted.
func (r *Run) counts() []Verdict {
	refused, again := 0, 0
	if r.Hapax != nil {
		refused, again = r.Hapax.Refused, r.Hapax.Retried
	}
	calls, live := r.Calls(), len(r.Modules)
	all := []Verdict{
		{"finit_module calls = live + refused", calls == live+refused+again && !r.Trace.Lost && r.Trace.Init.Total == 0,
			fmt.Sprintf("%d calls, %d live, %d refused, %d tried again for a later device", calls, live, refused, again), true},
		{"no call for a module that is there or on its way", r.Duplicates() == 0, fmt.Sprintf("%d calls", r.Duplicates()), true},
	}
	if s := r.Stats; s != nil {
		all = append(all,
			Verdict{"the kernel counts no failed load", s.Failed() == 0, fmt.Sprintf("kread %d, decompress %d, becoming %d, load %d",
				s.FailedKread, s.FailedDecompress, s.FailedBecoming, s.FailedLoad), true},
			Verdict{"no memory wasted", s.Wasted == 0, fmt.Sprintf("%d bytes", s.Wasted), true},
			Verdict{"no module in the list of duplicates", len(s.Duplicates) == 0, fmt.Sprintf("%d modules", len(s.Duplicates)), true})
	}
	return all
}

// sameModules compares the sets of modules that are live at the end.
func sameModules(r, udevd *Run) Verdict {
	var more, less []string
	for _, m := range r.Modules {
		if !slices.Contains(udevd.Modules, m) {
			more = append(more, m)
		}
	}
	for _, m := range udevd.Modules {
		if !slices.Contains(r.Modules, m) && elsewhere[m] == "" {
			less = append(less, m)
		}
	}
	found := fmt.Sprintf("%d modules", len(r.Modules))
	if len(more)+len(less) > 0 {
		found = fmt.Sprintf("only hapax: %v, only udevd: %v", more, less)
	}
	return Verdict{"the same modules as with udevd", len(more)+len(less) == 0, found, true}
}

func mb(bytes int64) float64 { return float64(bytes) / 1e6 }
