package guard

import (
	"testing"
	"time"

	"hapax/init/internal/cmdline"
)

// Nobody looks for a watchdog that is not asked for.
func TestE11NoWatchdog(t *testing.T) {
	t.Parallel()
	if w := newWatchdog(cmdline.Parse(""), nil); w.next != nil {
		t.Error("a watchdog is looked for without hapax.watchdog=")
	}
	w := newWatchdog(cmdline.Parse("hapax.watchdog=30,keep"), nil)
	if w.timeout != 30*time.Second || !w.keep {
		t.Errorf("timeout %v, keep %v", w.timeout, w.keep)
	}
	select {
	case <-w.next:
	case <-time.After(time.Minute):
		t.Error("the first look is not at once")
	}
}
