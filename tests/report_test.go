package tests

import (
	"strings"
	"testing"

	"hapax/tests/internal/guest"
)

// A report holds those fields of hapax's boot report that the tests look at.
type report struct {
	Requests, Coalesced, Finit, Live, Refused, Failed, Duplicates, Upcalls, Overruns, Loops, Overdue, Restarts, Removed int

	UpcallHits int `json:"upcalls_coalesced"`

	Kernel  string
	Clock   struct{ Engine, Index, Settled, Found, Mounted, Handover float64 } // in ms since boot
	Root    *struct{ Device, Type, UUID string }
	Modules []reported
}

// reported is a module of a report.
type reported struct {
	Name, State, Error string

	Origin struct{ Kind string }
	Begun  float64 `json:"begun_ms"` // handed to the kernel; 0 if it never was
	Ended  float64 `json:"ended_ms"`
}

// module returns what the report says about a module; nothing if it is not in it.
func (r report) module(name string) reported {
	for _, m := range r.Modules {
		if m.Name == name {
			return m
		}
	}
	return reported{}
}

// checkOnce holds the report against what the kernel itself recorded: each module went to finit_module once, no call
// was in vain, nothing went past the report.
func checkOnce(t *testing.T, r report, got coldplugged) {
	t.Helper()
	if r.Duplicates != 0 || r.Overruns != 0 {
		t.Errorf("report: %d duplicates and %d overruns, want none", r.Duplicates, r.Overruns)
	}
	if got.trace.Lost {
		t.Error("the trace buffer ran over: its figures say nothing")
	}
	if r.Finit != got.trace.Finit.Total {
		t.Errorf("report: %d finit_module calls, the kernel recorded %d: %v", r.Finit, got.trace.Finit.Total, got.trace.Finit)
	}
	if got.trace.Init.Total != 0 {
		t.Errorf("%d init_module calls, want none", got.trace.Init.Total)
	}
	if r.Live != len(got.modules) {
		t.Errorf("report: %d modules live, /proc/modules has %d", r.Live, len(got.modules))
	}
	if r.Live != got.trace.Finit.Results["0"] {
		t.Errorf("report: %d modules live, %d calls succeeded", r.Live, got.trace.Finit.Results["0"])
	}
	for _, m := range got.modules {
		if m.State != "Live" {
			t.Errorf("%s is %s", m.Name, m.State)
		}
	}
}

// checkUneventful is checkOnce for a boot with good modules: each call made a module live or was refused by its init
// function, and what failed did so without a call, because it needs a refused one.
func checkUneventful(t *testing.T, r report, got coldplugged) {
	t.Helper()
	checkOnce(t, r, got)
	if r.Finit != r.Live+r.Refused {
		t.Errorf("report: %d finit_module calls, %d live, %d refused: want calls = live + refused", r.Finit, r.Live, r.Refused)
	}
	for _, m := range r.Modules {
		if m.State == "failed" && (m.Begun != 0 || !strings.Contains(m.Error, "refused by its init function")) {
			t.Errorf("report: %+v", m)
		}
	}
}

// bound returns how many devices each driver is bound to.
func bound(devices []guest.Device) map[string]int {
	n := make(map[string]int)
	for _, d := range devices {
		if d.Driver != "" {
			n[d.Driver]++
		}
	}
	return n
}
