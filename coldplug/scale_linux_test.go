package coldplug

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Not parallel: the tests of this file count goroutines and descriptors of the process.

func TestWalkIsBounded(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(32))
	const devices = 3000
	sysfs := largeTree(t, devices, 1)
	before := runtime.NumGoroutine()

	var reporting, peakReporting, peak atomic.Int64
	var mu sync.Mutex
	seen := make(map[string]int)
	raise := func(max *atomic.Int64, n int64) {
		for old := max.Load(); n > old && !max.CompareAndSwap(old, n); old = max.Load() {
		}
	}
	stats, err := Walk(t.Context(), sysfs, func(d Device) {
		raise(&peakReporting, reporting.Add(1))
		defer reporting.Add(-1)
		raise(&peak, int64(runtime.NumGoroutine()))
		runtime.Gosched() // let the others in
		mu.Lock()
		defer mu.Unlock()
		seen[d.DevPath]++
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != devices+1 || stats.Reported != devices+1 {
		t.Errorf("%d different devices, %d reports, want %d", len(seen), stats.Reported, devices+1)
	}
	if peakReporting.Load() > maxWorkers {
		t.Errorf("%d reports at a time, want at most %d", peakReporting.Load(), maxWorkers)
	}
	if helpers := peak.Load() - int64(before); helpers != maxWorkers-1 {
		t.Errorf("%d goroutines more during the walk, want %d", helpers, maxWorkers-1)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines after the walk, %d before", after, before)
	}
}

// A small machine is read by the calling goroutine alone.
func TestWalkSmallTreeAlone(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	sysfs := largeTree(t, 200, 1)
	before := runtime.NumGoroutine()
	if _, err := Walk(t.Context(), sysfs, func(Device) {
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d goroutines during the walk, %d before", n, before)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func TestWalkCostDoesNotGrowWithCPUs(t *testing.T) {
	_, one := walkAll(t, largeTree(t, 10, 1))
	_, many := walkAll(t, largeTree(t, 10, 4096))
	if one != many {
		t.Errorf("with 1 CPU %+v, with 4096 CPUs %+v, want the same", one, many)
	}
}

func TestWalkClosesDescriptors(t *testing.T) {
	sysfs := largeTree(t, 2000, 1)
	before := openDescriptors(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var n atomic.Int64
	stats, err := Walk(ctx, sysfs, func(Device) {
		if n.Add(1) == 1000 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || stats.Reported >= 2000 {
		t.Errorf("Walk that is cancelled midway = %+v, %v", stats, err)
	}
	if _, err := Walk(t.Context(), sysfs, func(Device) {}); err != nil {
		t.Fatal(err)
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("%d open descriptors after the walks, %d before", after, before)
	}
}

// A walk that runs out of descriptors must not pass for one that found few devices.
func TestWalkOutOfDescriptors(t *testing.T) {
	sysfs := t.TempDir()
	write(t, sysfs, "devices/"+strings.Repeat("d/", maxDepth)+"uevent", "MODALIAS=x:1\n")
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = uint64(openDescriptors(t) + 20)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	_, err := Walk(t.Context(), sysfs, func(Device) {})
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("Walk with few descriptors = %v, want %v", err, syscall.EMFILE)
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// The aliases and block devices of this machine, compared with those that a plain walk over every
// directory and both files finds. A device can come or go between the two, hence the attempts.
func TestWalkLive(t *testing.T) {
	var diff string
	for range 5 {
		devices, _ := walkAll(t, "/sys")
		var aliases, disks []string
		for _, d := range devices {
			aliases = append(aliases, d.Modaliases...)
			if d.Block != nil {
				disks = append(disks, d.Block.Name)
			}
		}
		wantAliases, wantDisks := plainWalk("/sys")
		diff = cmp.Diff(wantAliases, set(aliases)) + cmp.Diff(wantDisks, set(disks))
		if diff == "" {
			if len(aliases) == 0 {
				t.Error("no device of this machine has a modalias")
			}
			return
		}
	}
	t.Errorf("plain walk and Walk differ (-plain +Walk):\n%s", diff)
}

// plainWalk returns the sorted set of modaliases and that of the names of block devices.
func plainWalk(sysfs string) (aliases, disks []string) {
	filepath.WalkDir(sysfs+"/devices", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		switch d.Name() {
		case "modalias":
			content, _ := os.ReadFile(path)
			aliases = append(aliases, strings.Split(string(content), "\n")...)
		case "uevent":
			content, _ := os.ReadFile(path)
			values := make(map[string]string)
			for line := range strings.SplitSeq(string(content), "\n") {
				key, value, _ := strings.Cut(line, "=")
				values[key] = value
				if key == "MODALIAS" {
					aliases = append(aliases, value)
				}
			}
			if t := values["DEVTYPE"]; t == "disk" || t == "partition" {
				disks = append(disks, values["DEVNAME"])
			}
		}
		return nil
	})
	return set(aliases), set(disks)
}

// set returns the trimmed and sorted strings, each once, without the empty one.
func set(s []string) []string {
	var trimmed []string
	for _, v := range s {
		if v = strings.TrimSpace(v); v != "" {
			trimmed = append(trimmed, v)
		}
	}
	slices.Sort(trimmed)
	return slices.Compact(trimmed)
}
