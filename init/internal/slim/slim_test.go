package slim

import (
	"os"
	"strings"
	"testing"
)

func TestParseMapping(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]mapping{
		"00400000-005cd000 r-xp 00000000 00:02 13                                 /init\n": {0x400000, 0x5cd000, "r-xp", false},
		"c000000000-c000400000 rw-p 00000000 00:00 0 \n":                                   {0xc000000000, 0xc000400000, "rw-p", true},
		"7ffd0000-7ffe0000 rw-p 00000000 00:00 0                          [stack]\n":       {},
		"c000400000-c000000000 rw-p 00000000 00:00 0\n":                                    {},
		"x-y rw-p 00000000 00:00 0\n":                                                      {}, "1-2 rw 0 0:0 0\n": {}, "": {}, "1-2\n": {},
	} {
		if got, ok := parseMapping(line); got != want || ok != (want != mapping{}) {
			t.Errorf("parseMapping(%q) = %+v, %v; want %+v", line, got, ok, want)
		}
	}
}

// TestTrim lets this process go on, with less.
func TestTrim(t *testing.T) {
	size := func() string {
		b, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "RssFile:") {
				return strings.TrimSpace(line)
			}
		}
		return ""
	}
	before := size()
	Start()
	Trim()
	if after := size(); after == before || after == "" {
		t.Errorf("%s before, %s after", before, after)
	}
}
