package guest

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The storm bench starts the program as StormInit, with rdinit=, in an image that holds the programs of all contenders.
// guest_role=storm-NAME chooses the one that handles the devices.
const (
	StormDir  = "storm"
	StormInit = StormDir + "/guest"
	StormRole = "storm-"
	Watcher   = "watch-memory" // the argument with which the program watches the memory

	// Modprober is what the kernel starts for a module that it wants itself. The image has none, for a kernel asks before
	// there is a PID 1, and those calls would be counted as the contender's; the guest makes it for those that rely on it.
	Modprober = "sbin/modprobe"
)

// The contenders. All of them but hapax announce a Storm under the name "storm" when they have settled.
const (
	Hapax    = "hapax"    // /init of the image; its own report says when it settled
	Udevd    = "udevd"    // systemd-udevd, udevadm trigger, udevadm settle
	Mdev     = "mdev"     // busybox mdev as a daemon with modprobe in its rules, mdev -s, add written to each uevent file
	Modprobe = "modprobe" // modprobe -a over all modaliases, until a round finds no new one
	Oracle   = "oracle"   // waits for the command Insert

	// Control is hapax built with the tag of ControlTag, which takes the single flight out of its table: the negative control
	// of the bench. Its guest plays the part of Hapax.
	Control    = "control"
	ControlTag = "nosingleflight"
)

// The commands of the storm bench.
const (
	Insert = "insert" // Storm; the argument names modules, separated by blanks, in the order in which they are inserted
	Usage  = "usage"  // Use
	Pokes  = "pokes"  // nothing; writes "add" to the uevent files of processors, as often as the argument says
	Stats  = "stats"  // string: /sys/kernel/debug/modules/stats, "" if the kernel has none
)

// A Storm says how long a contender took.
type Storm struct {
	Begun   time.Duration `json:"begun"`   // CLOCK_MONOTONIC
	Settled time.Duration `json:"settled"` // CLOCK_MONOTONIC
}

// Took returns the time from the begin of the work to its end.
func (s Storm) Took() time.Duration { return s.Settled - s.Begun }

// A Use is what a contender has used since it was started. Memory is in bytes.
type Use struct {
	Processes int   `json:"processes"` // made, threads among them
	Total     int64 `json:"total"`     // MemTotal
	Before    int64 `json:"before"`    // MemFree when the contender was started
	Low       int64 `json:"low"`       // the lowest MemFree that was seen since
	Free      int64 `json:"free"`      // MemFree now
	Available int64 `json:"available"` // MemAvailable now
}

// StormArgs are the kernel arguments of the storm bench. The first ones let guests of many processors start at all when the
// host is slower than real hardware; the recorder's buffer exists once for each processor, so it is small.
const StormArgs = "console=ttyS0 oops=panic tsc=reliable lpj=10000000 no_timer_check nowatchdog mitigations=off " +
	"rcupdate.rcu_expedited=1 rdinit=/" + StormInit + " trace_event=" + traceEvents + " trace_buf_size=512K "

// ParseMeminfo reads MemTotal, MemFree and MemAvailable of /proc/meminfo, in bytes.
func ParseMeminfo(text []byte) (total, free, available int64, err error) {
	want := map[string]*int64{"MemTotal": &total, "MemFree": &free, "MemAvailable": &available}
	for line := range bytes.Lines(text) {
		key, value, _ := strings.Cut(string(line), ":")
		into := want[key]
		if into == nil {
			continue
		}
		number, unit, _ := strings.Cut(strings.TrimSpace(value), " ")
		kib, err := strconv.ParseInt(number, 10, 64)
		if err != nil || unit != "kB" || kib < 0 || kib > 1<<50 {
			return 0, 0, 0, fmt.Errorf("meminfo: %q: want a number of kB", line)
		}
		*into = kib << 10
		delete(want, key)
	}
	if len(want) > 0 {
		return 0, 0, 0, fmt.Errorf("meminfo: %d of MemTotal, MemFree and MemAvailable are missing", len(want))
	}
	return total, free, available, nil
}

// ParseForks reads the number of processes and threads made since boot out of /proc/stat.
func ParseForks(text []byte) (int, error) {
	for line := range bytes.Lines(text) {
		if value, ok := strings.CutPrefix(string(line), "processes "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil || n < 0 {
				return 0, fmt.Errorf("stat: %q: want a count", line)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("stat: no count of processes")
}
