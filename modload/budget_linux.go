package modload

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"
)

// A budget bounds the memory that module files take while they are read: the
// kernel holds each whole, and unpacked beside it, until it is linked. In a
// guest with little memory a few graphics drivers at a time would be too much.
type budget struct {
	size  int64
	bytes *semaphore.Weighted
}

const (
	leastBudget = 8 << 20
	mostBudget  = 256 << 20
	unpacksTo   = 5           // a compressed module takes its own size and about four times that
	chargedFor  = time.Second // linking takes milliseconds; the rest of a load is the init function
)

// newBudget returns one for a machine with so many bytes of memory.
func newBudget(memory int64) budget {
	size := min(max(memory/16, leastBudget), mostBudget)
	return budget{size, semaphore.NewWeighted(size)}
}

// charge waits until a file of that size may be read and returns what ends
// that. A file that is larger than the budget takes all of it. Express ones do
// not wait, for a thread of the kernel does.
func (b budget) charge(size int64, packed, express bool) (free func()) {
	if packed {
		size *= unpacksTo
	}
	size = min(size, b.size)
	if express {
		if !b.bytes.TryAcquire(size) {
			return func() {}
		}
	} else if b.bytes.Acquire(context.Background(), size) != nil {
		return func() {} // the context has no end
	}
	// An init function that takes long must not keep others from being read.
	once := sync.OnceFunc(func() { b.bytes.Release(size) })
	timer := time.AfterFunc(chargedFor, once)
	return func() {
		timer.Stop()
		once()
	}
}

// memory returns the bytes of memory of the machine, 0 if it does not tell.
func memory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}
