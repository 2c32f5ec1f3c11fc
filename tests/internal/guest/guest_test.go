package guest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const trace = `# tracer: nop
#
# entries-in-buffer/entries-written: 9/9   #P:8
#
#                                _-----=> irqs-off/BH-disabled
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
 (udev-worker)-146     [003] .....     2.345678: sys_finit_module(fd: 5, uargs: 7f0c, flags: 0)
 (udev-worker)-147     [004] .....     2.345679: sys_finit_module(fd: 5, uargs: 7f0c, flags: 0)
 (udev-worker)-146     [003] .....     2.346001: sys_finit_module -> 0x0
 (udev-worker)-147     [003] .....     2.346002: sys_finit_module -> 0xffffffffffffffef
           <...>-150   [000] .....     2.400000: sys_finit_module(fd: 6, uargs: 7f0c, flags: 4)
 (udev-worker)-146     [003] .....     2.500000: sys_finit_module(fd: 7, uargs: 7f0c, flags: 0)
 (udev-worker)-146     [003] .....     2.500001: sys_finit_module -> 0xffffffffffffffed
 (udev-worker)-147     [003] .....     2.600000: sys_init_module(umod: 55d, len: 4e8, uargs: 7f0c)
 (udev-worker)-147     [003] .....     2.600001: sys_init_module -> 0x0
`

func TestParseTrace(t *testing.T) {
	got, err := ParseTrace(strings.NewReader(trace))
	if err != nil {
		t.Fatal(err)
	}
	want := Trace{
		Finit:   Calls{4, map[string]int{"0": 1, "EEXIST": 1, "ENODEV": 1}},
		Init:    Calls{1, map[string]int{"0": 1}},
		Callers: map[string]int{"(udev-worker)-146": 2, "(udev-worker)-147": 2, "<...>-150": 1},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("ParseTrace (-want +got):\n%s", d)
	}
	got, err = ParseTrace(strings.NewReader("# entries-in-buffer/entries-written: 10/12   #P:8\n"))
	if err != nil || !got.Lost {
		t.Errorf("ParseTrace of a buffer that ran over = %+v, %v, want Lost", got, err)
	}
	for _, bad := range []string{"a-1 [0] . 2: sys_finit_module?\n", "a-1 [0] . 2: sys_finit_module -> 0xzz\n"} {
		if got, err := ParseTrace(strings.NewReader(bad)); err == nil {
			t.Errorf("ParseTrace(%q) = %+v, want an error", bad, got)
		}
	}
}

const asks = `# entries-in-buffer/entries-written: 9/9   #P:2
#           TASK-PID       TGID    CPU#  |||||  TIMESTAMP  FUNCTION
            init-97      (     97) [000] ...1.     6.200000: sys_finit_module(fd: e, uargs: 38bc, flags: 0)
        open (1)-114     (    112) [001] .....     6.500000: module_request: fs-x (wait=1) wait=1 call_site=get_fs_type
            init-97      (     97) [000] ...1.     6.600000: sys_finit_module -> 0x0
      kworker/u4-9       (-------) [001] .....     6.700000: module_request: later wait=0 call_site=x
      kworker/u4-9       (-------) [001] .....     6.710000: answer: (x+0x6f/0xb0 <- __request_module) ret=0
              sh-115     (    112) [001] .....     6.750000: module_request: open wait=1 call_site=x
        open (1)-114     (    112) [001] .....     7.000000: answer: (get_fs_type+0x6f/0xb0 <- __request_module) ret=-2
            init-102     (     97) [000] ...1.     7.200000: sys_init_module(umod: 1, len: 2, uargs: 3)
             oth-103     (    103) [000] ...1.     7.300000: sys_finit_module(fd: e, uargs: 38bc, flags: 0)
`

func TestParseAsks(t *testing.T) {
	got, err := ParseAsks(strings.NewReader(asks))
	if err != nil {
		t.Fatal(err)
	}
	want := Asks{
		Requests:  []Request{{Name: "fs-x (wait=1)", At: 6500 * time.Millisecond, Took: 500 * time.Millisecond, Answer: -2}},
		Inserters: map[string]int{"97": 2, "103": 1}, Open: 1, NoWait: 1,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("ParseAsks (-want +got):\n%s", d)
	}
	if got, err := ParseAsks(strings.NewReader("a-1 ( 1) [0] . 2.5: answer: none\n")); err == nil {
		t.Errorf("ParseAsks without an answer = %+v, want an error", got)
	}
	if got, err := ParseAsks(strings.NewReader("# entries-in-buffer/entries-written: 10/12   #P:8\n")); err != nil || !got.Lost {
		t.Errorf("ParseAsks of a buffer that ran over = %+v, %v, want Lost", got, err)
	}
}

// script is a console that knows one answer.
type script struct{ sent, answer string }

func (s *script) Send(line string) error {
	s.sent = line
	return nil
}

func (s *script) WaitLine(_ time.Duration, text string) (string, error) {
	if !strings.Contains(s.answer, text) {
		return "", errors.New("time-out")
	}
	return s.answer, nil
}

func TestAsk(t *testing.T) {
	s := &script{answer: `/ # guest: {"cmd":"ls","result":["a","b"]}`}
	var names []string
	if err := (Client{Console: s}).Ask(List, "/etc", &names); err != nil {
		t.Fatal(err)
	}
	if s.sent != "ls /etc" || strings.Join(names, " ") != "a b" {
		t.Errorf("sent %q, got %q", s.sent, names)
	}
	s.answer = `guest: {"cmd":"cat","error":"open /x: no such file or directory"}`
	if err := (Client{Console: s}).Ask(Cat, "/x", nil); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("Ask: %v, want what the guest said", err)
	}
	s.answer = `guest: {"cmd":"ls","result":["a", [   12.3] usb 1-1: new device`
	if err := (Client{Console: s}).Ask(List, "/", &names); err == nil {
		t.Error("a line that the kernel broke into was accepted")
	}
}
