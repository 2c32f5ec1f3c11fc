package shutdown

import (
	"strconv"
	"strings"
	"time"
)

// Sync writes out what is dirty for as long as that gets less, and returns half a minute after it does not any more.
func Sync(sys System) { newCloser(sys, nil).sync() }

// sync writes out what is dirty for as long as that gets less.
func (c *closer) sync() {
	done := make(chan struct{})
	go func() {
		c.Sync()
		close(done)
	}()
	ticker := time.NewTicker(syncStall)
	defer ticker.Stop()
	for last, stalls := c.dirty(), 0; ; {
		select {
		case <-done:
			return
		case <-ticker.C:
		}
		now := c.dirty()
		if stalls++; now < last {
			stalls = 0
		}
		last = now
		if stalls == syncStalls {
			c.logf("sync: no progress for %v: %d kB are lost", syncStalls*syncStall, now)
			return
		}
		c.logf("sync: %d kB to write", now)
	}
}

// dirty returns the kilobytes that wait to be written.
func (c *closer) dirty() (kB uint64) {
	b, err := c.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "Dirty", "Writeback", "NFS_Unstable":
			n, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			kB += n
		}
	}
	return kB
}
