package engine

import (
	"fmt"
	"io"
	"slices"
	"time"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/klog"
)

// patienceBefore is how long a boot says nothing of what it waits for.
const patienceBefore = 3 * time.Second

// say notes what is done with the device that was found; "" is nothing.
func (h *hunt) say(step string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.step = step
}

// awaited says what the boot waits for.
func (h *hunt) awaited() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.step != "" {
		return h.step
	}
	return "root=" + h.params.Root
}

// progress writes a line each second, after three of silence, as long as the
// root is not mounted. It has a goroutine for itself: a console that takes
// nothing must hold nobody up.
func (h *hunt) progress(console io.Writer) {
	began := time.Now()
	time.Sleep(patienceBefore)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ; !h.ended.Load(); <-tick.C {
		limit := ""
		if h.params.Timeout != cmdline.Forever && !h.leaving.Load() {
			limit = " of " + h.params.Timeout.String()
		}
		line := fmt.Sprintf("hapax: waiting for %s, %.0f s%s", h.awaited(), time.Since(began).Seconds(), limit)
		_, _ = io.WriteString(console, klog.Printable(line)+"\n") // nobody to tell
	}
}

// pause stops at a point of rd.break= until the shell there has ended.
func (h *hunt) pause(point string) {
	if !slices.Contains(h.params.Break, point) {
		return
	}
	h.say("the shell of rd.break=" + point)
	h.blocks.release()
	h.ask(point)
	<-h.goOn
	h.say("")
}

// resumed passes on that the shell has ended.
func (h *hunt) resumed() {
	if h != nil {
		poke(h.goOn)
	}
}
