// Package modstats reads /sys/kernel/debug/modules/stats, the account that Linux 6.4 and later, built with
// CONFIG_MODULE_STATS, keeps of module loads that were in vain.
package modstats

import (
	"fmt"
	"strconv"
	"strings"
)

// Stats is what the file says. Fields that it leaves out, such as averages of nothing, are not kept.
// The comments name the step of kernel/module/main.c at which a load has ended.
type Stats struct {
	Loaded           int   `json:"loaded"`            // went live
	FailedKread      int   `json:"failed_kread"`      // the file could not be read
	FailedDecompress int   `json:"failed_decompress"` // or not unpacked
	FailedBecoming   int   `json:"failed_becoming"`   // before the module had memory of its own: the name is taken already
	FailedLoad       int   `json:"failed_load"`       // after that: it lost a race, or a symbol is missing
	Wasted           int64 `json:"wasted"`            // bytes of kernel memory that the failed loads took for a time

	Duplicates []Duplicate `json:"duplicates,omitempty"`
}

// A Duplicate is a module whose load failed because it was there already, or on its way.
type Duplicate struct {
	Module string `json:"module"`
	Times  int    `json:"times"`
	Reason string `json:"reason"` // "Becoming", "Load" or "Becoming & Load"
}

// Failed returns the number of loads that failed in any step.
func (s Stats) Failed() int {
	return s.FailedKread + s.FailedDecompress + s.FailedBecoming + s.FailedLoad
}

// listHead is the line before the list of duplicates, which begins with the names of its columns; some
// kernels write the first of them with a capital letter.
const listHead = "Duplicate failed modules:"

// Parse reads the text of the file. Counts that it does not know are passed over; those of Stats, but for Duplicates, have
// to be there. White space between a count and its name may be of any length.
func Parse(text string) (Stats, error) {
	var s Stats
	counts := map[string]*int{
		"Mods ever loaded": &s.Loaded, "Mods failed on kread": &s.FailedKread, "Mods failed on decompress": &s.FailedDecompress,
		"Mods failed on becoming": &s.FailedBecoming, "Mods failed on load": &s.FailedLoad,
	}
	wasted, list := false, false
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || list && strings.EqualFold(fields[0], "module-name"):
			continue
		case strings.TrimSpace(line) == listHead:
			list = true
			continue
		case list:
			d, err := parseDuplicate(fields)
			if err != nil {
				return Stats{}, err
			}
			s.Duplicates = append(s.Duplicates, d)
			continue
		}
		last := len(fields) - 1
		name := strings.Join(fields[:last], " ")
		n, err := strconv.ParseInt(fields[last], 10, 64)
		if err != nil || n < 0 {
			return Stats{}, fmt.Errorf("module stats: %q: want a name and a count", strings.TrimSpace(line))
		}
		if into := counts[name]; into != nil {
			*into = int(n)
			delete(counts, name)
		} else if name == "Virtual mem wasted bytes" {
			s.Wasted, wasted = n, true
		}
	}
	if len(counts) > 0 || !wasted {
		return Stats{}, fmt.Errorf("module stats: %d of 6 counts are missing", len(counts)+map[bool]int{false: 1}[wasted])
	}
	return s, nil
}

// parseDuplicate reads a line of the list: a name, a count and a reason of one or more words.
func parseDuplicate(fields []string) (Duplicate, error) {
	if len(fields) >= 3 {
		if n, err := strconv.Atoi(fields[1]); err == nil && n >= 0 {
			return Duplicate{Module: fields[0], Times: n, Reason: strings.Join(fields[2:], " ")}, nil
		}
	}
	return Duplicate{}, fmt.Errorf("module stats: duplicate %q: want a name, a count and a reason", strings.Join(fields, " "))
}
