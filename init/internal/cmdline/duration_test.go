package cmdline

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	t.Parallel()
	const bad = -1
	for s, want := range map[string]time.Duration{
		"90":                   90 * time.Second,
		"90s":                  90 * time.Second,
		"0":                    0,
		"1min":                 time.Minute,
		"1m":                   time.Minute,
		"500ms":                500 * time.Millisecond,
		"20us":                 20 * time.Microsecond,
		"20µs":                 20 * time.Microsecond,
		"1.5min":               90 * time.Second,
		".5":                   500 * time.Millisecond,
		"1h30m":                90 * time.Minute,
		"2min 30":              150 * time.Second,
		" 1 min 5 s ":          65 * time.Second,
		"1day":                 24 * time.Hour,
		"infinity":             Forever,
		"":                     bad,
		" ":                    bad,
		"s":                    bad,
		"-1":                   bad,
		"+1":                   bad,
		"1..5":                 bad,
		".":                    bad,
		"1fortnight":           bad,
		"1e3":                  bad,
		"0x10":                 bad,
		"90s!":                 bad,
		"infinity 1s":          bad,
		"INFINITY":             bad,
		"nan":                  bad,
		"9223372036854775807s": bad,
		"53375day":             53375 * 24 * time.Hour,
		"53376day":             bad,
		"53375day 1day":        bad,
		"9999999999999999999999999999999999999999": bad,
	} {
		got, ok := parseDuration(s)
		if !ok {
			got = bad
		}
		if got != want {
			t.Errorf("parseDuration(%q) = %v, want %v", s, got, want)
		}
	}
}
