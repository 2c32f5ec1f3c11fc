package base

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// epoch is before any image with this code was built.
const epoch = 1_795_000_000 // seconds since 1970: 2026-11-18

// validity is how far behind its image a clock may be ahead. Certificates and 32-bit programs fail beyond that.
const validity = 30 * 365 * 24 * time.Hour

// clock sets a clock that cannot be right: one before the image was built, or a lifetime after it, as a battery that is empty or
// firmware that was never set up leaves it. The hardware clock is asked first, for its driver may have come after the kernel
// looked; if that is no better, the time of the image or of the seed that the last boot saved stands in, whichever is later, so
// that at least it never runs before it. The seed's overrules no clock that can be right: one wrong boot would spoil all others.
//
// The kernel sets its clock itself from an RTC whose driver is built in. Time is UTC in both: local time belongs to systems that
// share the machine with another one.
func (s *System) clock() error {
	floor := s.built("/etc/initrd-release")
	sane := func(t time.Time) bool { return !t.Before(floor) && t.Before(floor.Add(validity)) }
	now := s.Now()
	if sane(now) {
		return nil
	}
	rtc, err := s.RTC()
	switch {
	case err == nil && sane(rtc):
		return s.SetTime(rtc)
	case err == nil:
		err = fmt.Errorf("the hardware clock says %s", stamp(rtc))
	case errors.Is(err, os.ErrNotExist):
		err = errors.New("there is no hardware clock")
	}
	source, latest := "image", s.built("/etc/initrd-release", seedFile)
	if latest.After(floor) {
		source = "last boot"
	}
	return errors.Join(fmt.Errorf("it was %s, and %w: set to the time of the %s, %s", stamp(now), err, source, stamp(latest)), s.SetTime(latest))
}

// built returns the latest time of these files, which are there as long as the machine is: those of the image carry that of
// SOURCE_DATE_EPOCH.
func (s *System) built(names ...string) time.Time {
	latest := time.Unix(epoch, 0)
	for _, name := range names {
		// Beyond the limit the time stamp is no better than the clock that it would correct.
		if st, err := os.Stat(s.Root + name); err == nil && st.ModTime().After(latest) && st.ModTime().Before(time.Unix(epoch, 0).Add(validity)) {
			latest = st.ModTime()
		}
	}
	return latest
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
