package slim

import (
	"os"
	"strings"
	"testing"
)

func TestParseMapping(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]mapping{
		"00400000-005cd000 r-xp 00000000 00:02 13                                 /init\n": {begin: 0x400000, end: 0x5cd000, perms: "r-xp"},
		"c000000000-c000400000 rw-p 00000000 00:00 0 \n":                                   {begin: 0xc000000000, end: 0xc000400000, perms: "rw-p", anonymous: true},
		"7ffd0000-7ffe0000 rw-p 00000000 00:00 0                          [stack]\n":       {},
		"c000400000-c000000000 rw-p 00000000 00:00 0\n":                                    {},
		"x-y rw-p 00000000 00:00 0\n":                                                      {}, "1-2 rw 0 0:0 0\n": {}, "": {}, "1-2\n": {},
	} {
		if got, ok := parseMapping(line); got != want || ok != (want != mapping{}) {
			t.Errorf("parseMapping(%q) = %+v, %v; want %+v", line, got, ok, want)
		}
	}
}

func TestParseSmaps(t *testing.T) {
	t.Parallel()
	got := parse("00400000-005cd000 r-xp 00000000 00:02 13                                 /init\n" +
		"Size:               1844 kB\nAnonymous:             0 kB\nVmFlags: rd ex mr mw me dw sd\n" +
		"005cd000-005ce000 r--p 00000000 00:02 13                                 /init: a name\n" +
		"Size:                  4 kB\nAnonymous:             4 kB\n" +
		"7ffd0000-7ffe0000 rw-p 00000000 00:00 0                          [stack]\nAnonymous:             0 kB\n")
	if len(got) != 2 || !got[0].clean || got[1].clean {
		t.Errorf("parse = %+v, want one that is clean and one that is not", got)
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
