package cmdline

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxWorkers bounds hapax.workers: each worker is a thread of the loader.
const maxWorkers = 256

// breakPoints returns the stages at which rd.break= can stop.
func breakPoints() []string { return []string{"cmdline", "pre-mount", "mount", "pre-pivot"} }

// A reader fills Params from one word after the other.
type reader struct {
	*Params
	timeout time.Duration
	limited bool // hapax.timeout= was there: rootwait no longer counts

	noResume bool // noresume, wherever it stands
}

// read applies w. Words of others are nobody's mistake and are passed over in silence; only the prefix
// "hapax." is ours, so an unknown key there is a slip of the pen.
func (r *reader) read(w word) {
	if own, ok := strings.CutPrefix(w.key, "hapax."); ok {
		r.readOwn(own, w)
		return
	}
	switch w.key {
	case "rd.break":
		if !w.hasValue {
			w.value = "pre-pivot"
		}
		r.addBreak(w.value)
		return
	case "quiet":
		r.Quiet = true
		return
	}
	if w.hasValue {
		r.readValue(w)
		return
	}
	switch w.key {
	case "ro":
		r.ReadWrite = false
	case "rw":
		r.ReadWrite = true
	case "rootwait":
		r.wait(Forever)
	case "noresume":
		r.noResume = true
	case "rd.shell":
		r.NoShell = false
	}
}

// readValue applies the keys that mean nothing without "=value".
func (r *reader) readValue(w word) {
	switch w.key {
	case "root":
		r.Root = w.value
	case "rootfstype":
		r.RootFSType = w.value
	case "rootflags":
		r.RootFlags = w.value
	case "init":
		r.Init = w.value
	case "rootwait":
		if d, ok := parseDuration(w.value); ok {
			r.wait(d)
		} else {
			r.bad(w, "a time in seconds", "waiting without limit")
			r.wait(Forever)
		}
	case "rootdelay":
		if d, ok := parseDuration(w.value); ok && d != Forever {
			r.RootDelay = d
		} else {
			r.bad(w, "a time in seconds", kept(r.RootDelay))
		}
	case "panic":
		if n, err := strconv.ParseInt(w.value, 0, 32); err == nil {
			r.Panic, r.HasPanic = int(n), true
		} else {
			r.bad(w, "a number of seconds", "ignored")
		}
	case "rd.modules_load", "modules_load":
		for name := range strings.SplitSeq(w.value, ",") {
			r.addModule(name)
		}
	case "resume":
		r.Resume = w.value
	case "resume_offset":
		if n, err := strconv.ParseUint(w.value, 0, 63); err == nil {
			r.ResumeOffset = n
		} else {
			r.bad(w, "a number of pages", fmt.Sprintf("%d kept", r.ResumeOffset))
		}
	default:
		r.readPolicy(w)
	}
}

// readPolicy applies the keys that say how careful a boot is.
func (r *reader) readPolicy(w word) {
	switch w.key {
	case "fsck.mode":
		switch w.value {
		case "auto":
			r.Fsck = FsckAuto
		case "force":
			r.Fsck = FsckForce
		case "skip":
			r.Fsck = FsckSkip
		default:
			r.bad(w, "auto, force or skip", "ignored")
		}
	case "rd.shell":
		switch w.value {
		case "0", "no", "off":
			r.NoShell = true
		case "1", "yes", "on":
			r.NoShell = false
		default:
			r.bad(w, "0 or 1", "ignored")
		}
	case "rd.emergency":
		switch w.value {
		case "reboot", "poweroff", "halt":
			r.Emergency = w.value
		default:
			r.bad(w, "reboot, poweroff or halt", "ignored")
		}
	}
}

// readOwn applies a word of ours, key without its prefix.
func (r *reader) readOwn(key string, w word) {
	switch key {
	case "deny", "hostname": // read by modindex.ReadConfig and by package base
	case "seed":
		if w.value != "credit" { // what is done by it is decided in package base
			r.bad(w, "credit", "ignored")
		}
	case "log":
		switch w.value {
		case "debug":
			r.LogLevel = Debug
		case "info":
			r.LogLevel = Info
		case "warn":
			r.LogLevel = Warn
		default:
			r.bad(w, "debug, info or warn", r.LogLevel.String()+" kept")
		}
	case "report":
		if w.value == "console" {
			r.ReportConsole = true
		} else {
			r.bad(w, "console", "ignored")
		}
	case "mode":
		switch m := Mode(w.value); m {
		case Standalone, Initramfs:
			r.Mode = m
		default:
			r.bad(w, "standalone or initramfs", "ignored")
		}
	case "trace":
		r.Trace = true
	case "timeout":
		if d, ok := parseDuration(w.value); ok {
			if d == 0 {
				d = Forever
			}
			r.timeout, r.limited = d, true
		} else {
			r.bad(w, "a time such as 90s, 2min or infinity", kept(r.timeout))
		}
	case "drain":
		if d, ok := parseDuration(w.value); ok {
			r.Drain, r.DrainGiven = d, true
		} else {
			r.bad(w, "a time such as 5s or 500ms", kept(r.Drain))
		}
	case "exitrd":
		if w.value == "0" || w.value == "1" {
			r.Exitrd = w.value
		} else {
			r.bad(w, "0 or 1", "ignored")
		}
	case "watchdog":
		value, keep := strings.CutSuffix(w.value, ",keep")
		if d, ok := parseDuration(value); ok && (d == 0 || time.Second <= d && d < Forever) {
			r.Watchdog, r.KeepWatchdog = d, keep
		} else {
			r.bad(w, "a number of seconds, or that and ,keep", kept(r.Watchdog))
		}
	case "workers":
		if n, err := strconv.Atoi(w.value); err == nil && 0 <= n && n <= maxWorkers {
			r.Workers = n
		} else {
			r.bad(w, fmt.Sprintf("a number from 0 to %d", maxWorkers), fmt.Sprintf("%d kept", r.Workers))
		}
	default:
		r.unknown(key)
	}
}

// wait notes a rootwait of length d; hapax.timeout= outranks it wherever it stands.
func (r *reader) wait(d time.Duration) {
	r.RootWait = true
	if !r.limited {
		r.timeout = d
	}
}

// addModule appends name unless it is there already, in whichever spelling.
func (r *reader) addModule(name string) {
	same := func(other string) bool { return normalize(other) == normalize(name) }
	if name != "" && !slices.ContainsFunc(r.LoadModules, same) {
		r.LoadModules = append(r.LoadModules, name)
	}
}

// addBreak appends the points of a comma list that exist.
func (r *reader) addBreak(list string) {
	for point := range strings.SplitSeq(list, ",") {
		switch {
		case !slices.Contains(breakPoints(), point):
			r.warn("rd.break=%q: no such point, ignored; there are %s", point, strings.Join(breakPoints(), ", "))
		case !slices.Contains(r.Break, point):
			r.Break = append(r.Break, point)
		}
	}
}

func (r *reader) bad(w word, want, instead string) {
	r.warn("%s=%q: want %s; %s", w.key, w.value, want, instead)
}

func kept(d time.Duration) string {
	if d == Forever {
		return "infinity kept"
	}
	return d.String() + " kept"
}

func (r *reader) warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}
