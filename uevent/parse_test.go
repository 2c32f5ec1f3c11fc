package uevent

import (
	"bufio"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// captures returns the messages of testdata/captures.txt.
func captures(tb testing.TB) []string {
	tb.Helper()
	file, err := os.Open("testdata/captures.txt")
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	var messages []string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		message, err := strconv.Unquote(lines.Text())
		if err != nil {
			tb.Fatalf("line %q: %v", lines.Text(), err)
		}
		messages = append(messages, message)
	}
	return messages
}

// The kernel says the header again in fields, which therefore check how the header was parsed.
func TestParseCaptures(t *testing.T) {
	t.Parallel()
	seen := make(map[Action]int)
	for _, message := range captures(t) {
		e, err := Parse([]byte(message))
		if err != nil {
			t.Errorf("Parse: %v", err)
			continue
		}
		seen[e.Action]++
		got := []string{string(e.Action), e.DevPath, e.Subsystem, strconv.FormatUint(e.Seqnum, 10)}
		var want []string
		for _, key := range []string{"ACTION", "DEVPATH", "SUBSYSTEM", "SEQNUM"} {
			value, _ := e.Var(key)
			want = append(want, value)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-fields +event):\n%s", message, diff)
		}
		if modalias, ok := e.Var("MODALIAS"); ok != strings.Contains(message, "MODALIAS=") || strings.ContainsAny(modalias, "\x00\n") {
			t.Errorf("%q: MODALIAS = %q, %v", message, modalias, ok)
		}
	}
	for _, action := range []Action{Add, Remove, Change, Online, Offline, Bind, Unbind} {
		if seen[action] == 0 {
			t.Errorf("no capture of %s", action)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	type result struct {
		Action    Action
		DevPath   string
		Subsystem string
		Seqnum    uint64
		Vars      map[string][]string
	}
	tests := []struct {
		name string
		msg  string
		want result // Vars are checked for its keys only
	}{
		{
			name: "@ in the devpath",
			msg:  "add@/devices/platform/soc@0/30800000.bus\x00SUBSYSTEM=platform\x00SEQNUM=1\x00",
			want: result{Add, "/devices/platform/soc@0/30800000.bus", "platform", 1, nil},
		},
		{
			name: "= in a value",
			msg:  "add@/devices/x\x00SUBSYSTEM=block\x00PARTNAME=a=b\x00SEQNUM=2\x00",
			want: result{Add, "/devices/x", "block", 2, map[string][]string{"PARTNAME": {"a=b"}}},
		},
		{
			name: "repeated key, in the order of the message",
			msg:  "add@/devices/x\x00MODALIAS=of:b\x00MODALIAS=acpi:a\x00SEQNUM=3\x00",
			want: result{Add, "/devices/x", "", 3, map[string][]string{"MODALIAS": {"of:b", "acpi:a"}}},
		},
		{
			name: "trimmed values",
			msg:  "add@/devices/x\x00MODALIAS=cpu:type:x86\n\x00A= \t b c\r\n\x00B=\n\x00SEQNUM=4\n\x00",
			want: result{Add, "/devices/x", "", 4, map[string][]string{"MODALIAS": {"cpu:type:x86"}, "A": {"b c"}, "B": {""}}},
		},
		{
			name: "data of a hostile device stays as it is",
			msg:  "add@/devices/x\x00DEVNAME=../../etc/passwd\x00PARTNAME=\xff\x01a\nb\x00SEQNUM=5\x00",
			want: result{Add, "/devices/x", "", 5, map[string][]string{"DEVNAME": {"../../etc/passwd"}, "PARTNAME": {"\xff\x01a\nb"}}},
		},
		{
			name: "fields without = or key, empty fields, keys that begin alike",
			msg:  "add@/devices/x\x00MODALIAS\x00=y\x00\x00MODALIASX=z\x00SEQNUM=6\x00",
			want: result{Add, "/devices/x", "", 6, map[string][]string{"MODALIAS": nil, "MODALIASX": {"z"}}},
		},
		{
			name: "the first SUBSYSTEM and the last SEQNUM are the kernel's",
			msg:  "add@/devices/x\x00SUBSYSTEM=pci\x00SUBSYSTEM=cpu\x00SEQNUM=9\x00SEQNUM=7\x00",
			want: result{Add, "/devices/x", "pci", 7, nil},
		},
		{
			name: "unknown action, dots in names, largest number",
			msg:  "frobnicate@/devices/..x/y..\x00SEQNUM=18446744073709551615\x00",
			want: result{"frobnicate", "/devices/..x/y..", "", 1<<64 - 1, nil},
		},
		{
			name: "64 KiB",
			msg:  "add@/devices/x\x00A=" + strings.Repeat("a", 64<<10) + "\x00SEQNUM=8\x00",
			want: result{Add, "/devices/x", "", 8, map[string][]string{"A": {strings.Repeat("a", 64<<10)}}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			msg := []byte(tt.msg)
			e, err := Parse(msg)
			if err != nil {
				t.Fatal(err)
			}
			clear(msg) // the event must not depend on it
			got := result{Action: e.Action, DevPath: e.DevPath, Subsystem: e.Subsystem, Seqnum: e.Seqnum}
			for key, values := range tt.want.Vars {
				if got.Vars == nil {
					got.Vars = make(map[string][]string)
				}
				got.Vars[key] = e.Vars(key)
				first, ok := e.Var(key)
				if ok != (len(values) > 0) || ok && first != values[0] {
					t.Errorf("Var(%s) = %q, %v, want the first of %q", key, first, ok, values)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Parse (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const rest = "\x00SEQNUM=1\x00"
	tests := []struct{ name, msg, reason string }{
		{"empty", "", "not ended by a NUL"},
		{"one byte", "a", "not ended by a NUL"},
		{"only NULs", "\x00\x00\x00", "header without @"},
		{"6 bytes", "add@/x", "not ended by a NUL"},
		{"udevd", "libudev\x00\xfe\xed\xca\xfe\x28\x00\x00\x00", "from udevd, not from the kernel"},
		{"no @", "add/devices/x" + rest, "header without @"},
		{"@ after the header", "add\x00A=@/devices/x" + rest, "header without @"},
		{"no action", "@/devices/x" + rest, "action is not a lower-case word"},
		{"capitals", "ADD@/devices/x" + rest, "action is not a lower-case word"},
		{"action with a line break", "add\n@/devices/x" + rest, "action is not a lower-case word"},
		{"no devpath", "add@" + rest, "devpath is not absolute and clean"},
		{"root as devpath", "add@/" + rest, "devpath is not absolute and clean"},
		{"relative devpath", "add@devices/x" + rest, "devpath is not absolute and clean"},
		{"devpath that leaves sysfs", "add@/../../etc" + rest, "devpath is not absolute and clean"},
		{".. inside", "add@/devices/../x" + rest, "devpath is not absolute and clean"},
		{". inside", "add@/devices/./x" + rest, "devpath is not absolute and clean"},
		{"trailing slash", "add@/devices/x/" + rest, "devpath is not absolute and clean"},
		{"double slash", "add@/devices//x" + rest, "devpath is not absolute and clean"},
		{"last field cut off", "add@/devices/x\x00SEQNUM=1", "not ended by a NUL"},
		{"no SEQNUM", "add@/devices/x\x00A=b\x00", "SEQNUM is missing or not a number"},
		{"negative SEQNUM", "add@/devices/x\x00SEQNUM=-1\x00", "SEQNUM is missing or not a number"},
		{"SEQNUM out of range", "add@/devices/x\x00SEQNUM=18446744073709551616\x00", "SEQNUM is missing or not a number"},
	}
	for _, tt := range tests {
		_, err := Parse([]byte(tt.msg))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Reason != tt.reason {
			t.Errorf("%s: Parse(%q) = %v, want a *SyntaxError with %q", tt.name, tt.msg, err, tt.reason)
		}
	}
	_, err := Parse([]byte(strings.Repeat("\x01", 1<<16)))
	if len(err.Error()) > 400 {
		t.Errorf("the error for 64 KiB of garbage has %d bytes", len(err.Error()))
	}
}

func FuzzParse(f *testing.F) {
	for _, message := range captures(f) {
		f.Add([]byte(message))
	}
	f.Add([]byte("libudev\x00\xfe\xed\xca\xfe"))
	f.Add([]byte("add@/devices/soc@0\x00A\x00=\x00=b\x00B=c=d\n\x00SEQNUM=1\x00"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		e, err := Parse(msg)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || len(syntax.Start) > maxQuoted {
				t.Errorf("error %v is not a *SyntaxError, or repeats %d bytes", err, len(syntax.Start))
			}
			return
		}
		if !strings.HasPrefix(string(msg), string(e.Action)+"@"+e.DevPath+"\x00") {
			t.Errorf("%q: header is not %s@%s", msg, e.Action, e.DevPath)
		}
		if strings.Contains(e.DevPath+"/", "/../") || !strings.HasPrefix(e.DevPath, "/") {
			t.Errorf("devpath %q leads out of sysfs", e.DevPath)
		}
		for field := range strings.SplitSeq(string(msg), "\x00") {
			key, _, _ := strings.Cut(field, "=")
			first, ok := e.Var(key)
			values := e.Vars(key)
			if ok != (len(values) > 0) || ok && (first != values[0] || strings.TrimSpace(first) != first && isASCII(first)) {
				t.Errorf("Var(%q) = %q, %v, but Vars = %q", key, first, ok, values)
			}
		}
	})
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

func BenchmarkParse(b *testing.B) {
	messages := captures(b)
	for _, action := range []string{"add@/devices/system/cpu/cpu0", "add@/devices/pci0000:00/0000:00:02.0/nvme/nvme0/nvme0n1/nvme0n1p1"} {
		for _, message := range messages {
			if !strings.HasPrefix(message, action+"\x00") {
				continue
			}
			b.Run("bytes="+strconv.Itoa(len(message)), func(b *testing.B) {
				msg := []byte(message)
				b.ReportAllocs()
				for b.Loop() {
					e, err := Parse(msg)
					if err != nil {
						b.Fatal(err)
					}
					e.Var("MODALIAS")
				}
			})
		}
	}
}

func TestParseAllocatesOnce(t *testing.T) {
	msg := []byte(captures(t)[0])
	allocs := testing.AllocsPerRun(100, func() {
		e, _ := Parse(msg)
		e.Var("MODALIAS")
	})
	if allocs > 1 {
		t.Errorf("Parse and Var allocate %v times, want once", allocs)
	}
}
