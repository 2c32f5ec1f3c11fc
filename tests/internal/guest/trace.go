package guest

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ParseTrace sums up the text that the kernel shows as /sys/kernel/tracing/trace. Its lines look so:
//
//	# entries-in-buffer/entries-written: 2/2   #P:8
//	 (udev-worker)-146     [003] .....     2.345678: sys_finit_module(fd: 5, uargs: 55d, flags: 0)
//	 (udev-worker)-146     [003] .....     2.346001: sys_finit_module -> 0xffffffffffffffef
//
// A call without a result is one that has not returned.
func ParseTrace(r io.Reader) (Trace, error) {
	t := Trace{Finit: newCalls(), Init: newCalls(), Callers: make(map[string]int)}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if counts, ok := strings.CutPrefix(line, "# entries-in-buffer/entries-written: "); ok {
			counts, _, _ = strings.Cut(counts, " ")
			kept, written, _ := strings.Cut(counts, "/")
			t.Lost = kept != written
			continue
		}
		calls := &t.Finit
		task, event, ok := strings.Cut(line, ": sys_finit_module")
		if !ok {
			calls = &t.Init
			if task, event, ok = strings.Cut(line, ": sys_init_module"); !ok {
				continue
			}
		}
		if strings.HasPrefix(event, "(") {
			calls.Total++
			caller, _, _ := strings.Cut(task, " [")
			t.Callers[strings.TrimSpace(caller)]++
			continue
		}
		result, ok := strings.CutPrefix(event, " -> ")
		if !ok {
			return Trace{}, fmt.Errorf("trace: neither a call nor a result: %q", line)
		}
		code, err := strconv.ParseUint(strings.TrimSpace(result), 0, 64)
		if err != nil {
			return Trace{}, fmt.Errorf("trace: result of %q: %w", line, err)
		}
		calls.Results[errnoName(code)]++
	}
	return t, lines.Err()
}

func newCalls() Calls { return Calls{Results: make(map[string]int)} }

// errnoName names a system call's result as the kernel returns it: 0, or a negative errno.
func errnoName(code uint64) string {
	if code == 0 {
		return "0"
	}
	errno := unix.Errno(-code)
	if name := unix.ErrnoName(errno); name != "" {
		return name
	}
	return strconv.FormatInt(int64(code), 10)
}
