package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hapax/coldplug"
	"hapax/init/internal/handoff"
	"hapax/init/internal/klog"
	"hapax/init/internal/rootdev"
	"hapax/modload"
)

// rescuePath is where the account of a root that did not come is kept.
const rescuePath = "/run/hapax/rescue.txt"

// rootOverdue ends the hunt with an account of what was there, so that a
// person can tell a wrong root= from a missing driver.
func (e *engine) rootOverdue() {
	e.hunt.giveUp()
	e.blocks.release()
	text := overdueText(overdue{
		ref:     e.params.Root,
		waited:  e.params.Timeout.String(),
		disks:   e.blocks.finder.Seen(),
		modules: e.modules.sched.Modules(),
		idle:    driverless(e.sysfs),
		lookup:  func(alias string) []string { return e.modules.index.Lookup(alias).Names },
		missing: e.missing(),
		refusal: e.hunt.lastRefusal(),
	})
	e.writeReport() // which makes the folder, too
	if err := os.WriteFile(rescuePath, []byte(text), 0o644); err != nil {
		e.log.Warnf("%v", err)
	}
	e.announce()
	e.tell(handoff.Rescue, text)
}

// overdue is what is known when the root has not come.
type overdue struct {
	ref, waited string
	disks       []rootdev.Seen
	modules     []modload.Module
	idle        []string // modaliases of devices without a driver
	lookup      func(alias string) []string
	missing     map[string][]string // modules that were left out of the image, by the alias that they would serve
	refusal     string              // why a share could not be mounted; "" if that was not tried
}

// missing returns what would have served the devices that the image has no
// module for.
func (e *engine) missing() map[string][]string {
	list, err := e.unserved.report(e.modules.dir)
	if err != nil {
		e.log.Warnf("%v", err)
	}
	missing := map[string][]string{}
	for _, u := range list {
		missing[u.Alias] = u.Modules
	}
	return missing
}

// overdueText lays out the account, most useful part first: the console shows
// the beginning, the file has all.
func overdueText(o overdue) string {
	var b strings.Builder
	fmt.Fprintf(&b, "root=%s has not appeared within %s (hapax.timeout=).\n", o.ref, o.waited)
	if o.refusal != "" {
		section(&b, "the last try:\n", []string{"  " + o.refusal})
	}
	var disks []string
	for _, d := range o.disks {
		disks = append(disks, "  /dev/"+d.String()+"\n")
	}
	if len(disks) == 0 {
		disks = []string{"  none\n"}
	}
	section(&b, "block devices seen:\n", disks)
	state := map[string]modload.Module{}
	var failed, late []string
	for _, m := range o.modules {
		state[m.Name] = m
		switch {
		case m.State == modload.Failed:
			failed = append(failed, "  "+m.Error+"\n")
		case !m.State.Ended():
			late = append(late, "  "+m.Name+" "+m.State.String()+"\n")
		}
	}
	section(&b, "modules that could not be loaded:\n", failed)
	section(&b, "modules that are not loaded yet:\n", late)
	var idle []string
	for _, alias := range o.idle {
		if word := served(o.lookup(alias), o.missing[alias], state); word != "" {
			idle = append(idle, "  "+shorten(alias)+" "+word+"\n")
		}
	}
	section(&b, "devices without a driver:\n", idle)
	return b.String()
}

func section(b *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	b.WriteString(title)
	for _, line := range lines {
		b.WriteString(klog.Printable(strings.TrimSuffix(line, "\n")) + "\n")
	}
}

// served tells what the image has for a device that no driver is bound to; ""
// if a module for it is live, as for input devices, which have no driver.
func served(names, missing []string, state map[string]modload.Module) string {
	switch {
	case len(names) == 0 && len(missing) > 0:
		return "(not in this image; add it by hapax build --modules " + strings.Join(missing, ",") + ")"
	case len(names) == 0:
		return "(no module in this image)"
	}
	out := make([]string, 0, len(names))
	for _, name := range names {
		m, known := state[name]
		switch {
		case !known:
			out = append(out, name+" blacklisted")
		case m.State == modload.Live || m.State == modload.Builtin:
			return ""
		default:
			out = append(out, name+" "+m.State.String())
		}
	}
	return "(" + strings.Join(out, ", ") + ")"
}

// shorten cuts a modalias to what a line of a console takes: that of a CPU
// runs to a thousand bytes.
func shorten(alias string) string {
	const most = 80
	if len(alias) <= most {
		return alias
	}
	return alias[:most] + "..."
}

// driverless returns the modaliases of the devices that no driver is bound to,
// sorted, each once.
func driverless(sysfs string) []string {
	found := make(chan []string, 64)
	go func() {
		defer close(found)
		_, _ = coldplug.Walk(context.Background(), sysfs, func(d coldplug.Device) {
			if len(d.Modaliases) == 0 {
				return
			}
			if _, err := os.Lstat(filepath.Join(sysfs, d.DevPath, "driver")); err != nil {
				found <- d.Modaliases
			}
		})
	}()
	var all []string
	for aliases := range found {
		all = append(all, aliases...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
