package cmdline

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Forever is the duration that "infinity" stands for: 146 years, so that a little more can be added to it
// without overflow.
const Forever time.Duration = math.MaxInt64 / 2

// parseDuration reads a time span as systemd.time(7) and Go write it: a number alone is in seconds, and
// terms add up, as in "90", "500ms", "1.5min" and "1min 30s". It is never negative; what does not fit is
// an error, not Forever.
func parseDuration(s string) (d time.Duration, ok bool) {
	s = strings.Trim(s, spaces)
	if s == "infinity" {
		return Forever, true
	}
	if s == "" {
		return 0, false
	}
	for s != "" {
		number, rest := cutWhile(s, func(c byte) bool { return '0' <= c && c <= '9' || c == '.' })
		name, rest := cutWhile(strings.TrimLeft(rest, spaces), func(c byte) bool { return c > ' ' && c != '.' && (c < '0' || c > '9') })
		s = strings.TrimLeft(rest, spaces)

		n, err := strconv.ParseFloat(number, 64)
		unit, known := unitOf(name)
		total := float64(d) + n*float64(unit)
		if err != nil || !known || total >= float64(Forever) {
			return 0, false
		}
		d = time.Duration(math.Round(total))
	}
	return d, true
}

func cutWhile(s string, in func(byte) bool) (head, tail string) {
	i := 0
	for i < len(s) && in(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

// unitOf knows the units up to the day; nobody waits for a month.
func unitOf(name string) (time.Duration, bool) {
	switch name {
	case "", "s", "sec", "second", "seconds":
		return time.Second, true
	case "us", "µs", "μs", "usec":
		return time.Microsecond, true
	case "ms", "msec":
		return time.Millisecond, true
	case "m", "min", "minute", "minutes":
		return time.Minute, true
	case "h", "hr", "hour", "hours":
		return time.Hour, true
	case "d", "day", "days":
		return 24 * time.Hour, true
	}
	return 0, false
}
