package engine

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hapax/init/internal/control"
	"hapax/init/internal/fault"
	"hapax/init/internal/handoff"
	"hapax/init/internal/klog"
	"hapax/init/internal/report"
	"hapax/modload"
)

// announce writes the report's line to the console, once, if
// hapax.report=console asks for it.
func (e *engine) announce() {
	if e.params.ReportConsole && !e.announced {
		e.announced = true
		_, _ = e.console.Write([]byte(e.summary().Line()))
		e.console.Flush(consolePatience) // before the guard says something
	}
}

// consolePatience is how long the report may hold up the boot. A console that
// works takes it at once.
const consolePatience = 20 * time.Millisecond

// newConsole returns what writes to the console and does not wait for it.
func newConsole() *klog.Ring {
	const size = 16 << 10
	return klog.NewRing(os.Stdout, size, func(n int) []byte {
		return []byte("hapax: " + strconv.Itoa(n) + " lines dropped\n")
	})
}

// summary collects the counts.
func (e *engine) summary() report.Summary {
	c := e.modules.sched.Counters()
	s := report.Summary{
		Requests: c.Requests, Coalesced: c.Coalesced, Finit: c.Finit, Live: c.Live, Refused: c.Refused,
		Failed: c.Failed, Duplicates: c.Duplicates, Unmatched: c.Unmatched, Retried: c.Retried,
		Abandoned: c.Abandoned, Removed: c.Removed, Loops: c.Loops, Overdue: c.Overdue,
		Upcalls: c.Upcalls, UpcallHits: c.UpcallsCoalesced,
		Devices: int(e.devices.Load()),
		Events:  int(e.events.Load()),
	}
	if e.conn != nil {
		st := e.conn.Stats()
		s.Overruns = int(st.Overruns + st.Truncated)
	}
	if e.clock.Settled != 0 {
		s.SettleMS = float64(int64((e.clock.Settled-e.clock.Engine)*1000)) / 1000
	}
	s.Restarts, _ = strconv.Atoi(os.Getenv("HAPAX_RESTARTS"))
	return s
}

// writeReport writes boot.json, and its line into a file of its own for those
// who parse nothing.
func (e *engine) writeReport() {
	b := &report.Boot{
		Version: version(),
		Kernel:  e.release,
		Cmdline: strings.TrimSpace(e.cmdline),
		Summary: e.summary(),
		Clock:   e.clock,
		Modules: e.modules.sched.Modules(),
	}
	sizes := modload.ReadSizes()
	for i, m := range b.Modules {
		b.Modules[i].Size = sizes[m.Name]
	}
	var err error
	if b.Unserved, err = e.unserved.report(e.modules.dir); err != nil {
		e.log.Warnf("%v", err)
	}
	if e.hunt != nil {
		b.Root = e.hunt.mounted
	}
	fault.At("report")
	if err := b.WriteFile(e.reportPath); err != nil {
		e.log.Warnf("boot report: %v", err)
	}
	summary := filepath.Join(filepath.Dir(e.reportPath), filepath.Base(handoff.SummaryPath))
	if err := os.WriteFile(summary, []byte(b.Line()), 0o644); err != nil {
		e.log.Warnf("boot report: %v", err)
	}
}

// A status is what hapaxctl status prints.
type status struct {
	Version string `json:"version"`
	Kernel  string `json:"kernel"`
	Settled bool   `json:"settled"`
	Pending int    `json:"pending"` // modules that are waiting, queued or inserting
	report.Summary
	Control control.Stats    `json:"control"`
	Busy    []modload.Module `json:"busy,omitempty"` // the pending ones
}

// status may be called from any goroutine.
func (e *engine) status() status {
	s := status{
		Version: version(), Kernel: e.release, Settled: e.isQuiet.Load(),
		Pending: e.modules.sched.Pending(), Summary: e.summary(), Control: e.control.Stats(),
	}
	for _, m := range e.modules.sched.Modules() {
		if !m.State.Ended() {
			s.Busy = append(s.Busy, m)
		}
	}
	return s
}
