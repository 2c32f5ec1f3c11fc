package guest

import (
	"strings"
	"testing"
	"time"
)

const meminfo = "MemTotal:        8137988 kB\nMemFree:         7934812 kB\nMemAvailable:    7856300 kB\nBuffers:               0 kB\n" +
	"HugePages_Total:       0\n"

func TestParseMeminfo(t *testing.T) {
	total, free, available, err := ParseMeminfo([]byte(meminfo))
	if err != nil || total != 8137988<<10 || free != 7934812<<10 || available != 7856300<<10 {
		t.Errorf("ParseMeminfo = %d, %d, %d, %v", total, free, available, err)
	}
	for name, text := range map[string]string{
		"empty":     "",
		"no free":   strings.Replace(meminfo, "MemFree", "MemFreed", 1),
		"no number": strings.Replace(meminfo, "7934812", "much", 1),
		"unit":      strings.Replace(meminfo, "7934812 kB", "7934812 MB", 1),
		"negative":  strings.Replace(meminfo, "7934812", "-1", 1),
		"huge":      strings.Replace(meminfo, "7934812", "9223372036854775807", 1),
	} {
		if _, free, _, err := ParseMeminfo([]byte(text)); err == nil {
			t.Errorf("%s: MemFree = %d, want an error", name, free)
		}
	}
}

func TestParseForks(t *testing.T) {
	const stat = "cpu  1 2 3\nctxt 12\nbtime 5\nprocesses 1234\nprocs_running 2\n"
	if n, err := ParseForks([]byte(stat)); err != nil || n != 1234 {
		t.Errorf("ParseForks = %d, %v, want 1234", n, err)
	}
	for _, text := range []string{"", "processes \n", "processes -1\n", "processes many\n"} {
		if n, err := ParseForks([]byte(text)); err == nil {
			t.Errorf("ParseForks(%q) = %d, want an error", text, n)
		}
	}
}

func FuzzParseProc(f *testing.F) {
	f.Add([]byte(meminfo))
	f.Add([]byte("processes 7\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if total, free, available, err := ParseMeminfo(text); err == nil && min(total, free, available) < 0 {
			t.Errorf("ParseMeminfo = %d, %d, %d", total, free, available)
		}
		if n, err := ParseForks(text); err == nil && n < 0 {
			t.Errorf("ParseForks = %d", n)
		}
	})
}

func TestStormTook(t *testing.T) {
	if took := (Storm{Begun: time.Second, Settled: 3 * time.Second}).Took(); took != 2*time.Second {
		t.Errorf("Took = %v", took)
	}
}
