package engine

import (
	"os"
	"strconv"
	"strings"
)

// readSeqnum returns the number of the last uevent that the kernel has sent,
// 0 if it does not say.
func readSeqnum() uint64 {
	b, err := os.ReadFile("/sys/kernel/uevent_seqnum")
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n
}

// poke makes c readable without waiting.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
