package engine

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"hapax/init/internal/rootdev"
)

// resumePatience is how long a boot that has its root waits for the device of
// resume=. Swap space is seldom far from the root, and a distribution leaves
// resume= behind when swap space goes.
const resumePatience = 10 * time.Second

// resume wakes the hibernated system that resume= names, if there is one. It
// has to come before anything is mounted: that system believes that it knows
// what its file systems hold. If all goes well it does not return.
func (h *hunt) resume() {
	if h.params.Resume == "" {
		return
	}
	ref, err := rootdev.ParseResume(h.params.Resume)
	if err != nil {
		h.warnf("%v", err)
		return
	}
	h.say("resume=" + h.params.Resume)
	defer h.say("")
	limit := time.After(resumePatience)
	for {
		if seen, ok := h.blocks.finder.Lookup(ref); ok {
			if err := h.wakeUp(seen); err != nil {
				h.warnf("resume=%s: %v: booting afresh", h.params.Resume, err)
			}
			return
		}
		select {
		case <-h.blocks.probed:
		case <-limit:
			h.warnf("resume=%s has not appeared in %v after the root: booting afresh", h.params.Resume, resumePatience)
			return
		}
	}
}

// restore has the kernel restore what a device holds, if that is the image of
// a hibernated system.
func (h *hunt) restore(seen rootdev.Seen) error {
	r, _, err := h.blocks.open(seen.Name)
	if err != nil {
		return err
	}
	asleep, err := rootdev.Hibernated(r, h.params.ResumeOffset)
	if c, ok := r.(io.Closer); ok {
		c.Close() // read only: nothing can be lost
	}
	if err != nil || !asleep {
		return err
	}
	if h.params.ResumeOffset != 0 {
		offset := strconv.FormatUint(h.params.ResumeOffset, 10)
		if err := os.WriteFile("/sys/power/resume_offset", []byte(offset), 0); err != nil {
			return err
		}
	}
	if err := os.WriteFile("/sys/power/resume", []byte(seen.Devno.String()), 0); err != nil {
		return err
	}
	return fmt.Errorf("the kernel has not restored what is on %s", seen.Name)
}
