package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watchStep is how often the watcher looks. Each look is one system call.
const watchStep = 20 * time.Millisecond

// watchMemory keeps the lowest amount of free memory so far, in bytes, in a file that usage reads. It never ends.
func watchMemory() {
	f, err := os.Create(stormPath("low"))
	if err != nil {
		announce("watch", nil, err)
		return
	}
	low := int64(-1)
	for ; ; time.Sleep(watchStep) {
		var info unix.Sysinfo_t
		if err := unix.Sysinfo(&info); err != nil {
			announce("watch", nil, err)
			return
		}
		free := int64(info.Freeram) * int64(info.Unit)
		if low >= 0 && free >= low {
			continue
		}
		low = free
		// Of the same length each time, so that a reader finds a whole number.
		if _, err := f.WriteAt(fmt.Appendf(nil, "%20d\n", low), 0); err != nil {
			announce("watch", nil, err)
			return
		}
	}
}
