package engine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"hapax/init/internal/handoff"
)

// tracefsPath is where tracefs is, if somebody has mounted it. The engine does
// not: to trace costs a patch of the kernel's code on every processor.
const tracefsPath = "/sys/kernel/tracing"

// A tracer knows which thread has made which request_module call, from a
// histogram that the kernel keeps of its module:module_request event. That
// takes a fixed piece of memory and none of the ring buffer, which may be
// somebody else's. See Documentation/trace/histogram.rst.
type tracer struct {
	dir string // of the event

	mu   sync.Mutex
	seen map[request]int // calls that belong to requests which have come in
}

// A request is one that a thread has made.
type request struct {
	tid  int
	name string
}

// trigger makes the histogram. Requests that nobody waits for are left out.
const trigger = "hist:keys=common_pid,name:size=256 if wait==1"

// openTracer returns nil where the kernel has no such histogram.
func openTracer(tracefs string) *tracer {
	dir := filepath.Join(tracefs, "events/module/module_request")
	err := os.WriteFile(filepath.Join(dir, "trigger"), []byte(trigger+"\n"), 0)
	// An engine before this one may have made it.
	if err != nil && !errors.Is(err, os.ErrExist) {
		return nil
	}
	t := &tracer{dir: dir, seen: map[request]int{}}
	if calls, err := t.calls(); err == nil {
		t.seen = calls
	}
	return t
}

// close removes the histogram.
func (t *tracer) close() {
	if t != nil {
		_ = os.WriteFile(filepath.Join(t.dir, "trigger"), []byte("!"+trigger+"\n"), 0)
	}
}

// thread returns a thread that has made a request of that name which was not
// attributed before, and for which inserts says what module it inserts.
func (t *tracer) thread(name string, inserts func(tid int) string) (module string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	calls, err := t.calls()
	if err != nil {
		return ""
	}
	for r, n := range calls {
		if r.name != name || n <= t.seen[r] {
			continue
		}
		if module = inserts(r.tid); module != "" {
			t.seen[r]++
			return module
		}
	}
	return ""
}

// calls reads the histogram.
func (t *tracer) calls() (map[request]int, error) {
	b, err := os.ReadFile(filepath.Join(t.dir, "hist"))
	if err != nil {
		return nil, err
	}
	return parseHistogram(b)
}

// parseHistogram reads lines such as
//
//	{ common_pid:        123, name: crypto-ecb(aes)        } hitcount:          2
//
// and passes over all others.
func parseHistogram(text []byte) (map[request]int, error) {
	calls := map[request]int{}
	for line := range bytes.Lines(text) {
		keys, count, ok := strings.Cut(string(line), "} hitcount:")
		keys, isEntry := strings.CutPrefix(keys, "{ common_pid:")
		if !ok || !isEntry {
			continue
		}
		pid, name, _ := strings.Cut(keys, ", name:")
		tid, err := strconv.Atoi(strings.TrimSpace(pid))
		n, err2 := strconv.Atoi(strings.TrimSpace(count))
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("histogram of module_request: %.80q: %w", line, err)
		}
		calls[request{tid, strings.TrimSpace(name)}] += n
	}
	return calls, nil
}

// helperOnItsWay reports whether the kernel has started a helper that has not
// reached us: then a module that is asking may be one whose request is yet to
// come. A helper that has sent its request sleeps in the socket.
func helperOnItsWay(proc string) bool {
	files, _ := filepath.Glob(filepath.Join(proc, "[0-9]*/comm")) // the pattern is valid
	for _, file := range files {
		comm, err := os.ReadFile(file)
		if err != nil || string(bytes.TrimSpace(comm)) != filepath.Base(handoff.HelperPath) {
			continue
		}
		if !awaitsAnswer(filepath.Dir(file)) {
			return true
		}
	}
	return false
}

// awaitsAnswer reports whether a thread of a process sleeps in recvmsg(2) on a
// socket such as ours.
func awaitsAnswer(process string) bool {
	files, _ := filepath.Glob(filepath.Join(process, "task/*/wchan")) // the pattern is valid
	return slices.ContainsFunc(files, func(file string) bool {
		wchan, err := os.ReadFile(file)
		return err == nil && bytes.Contains(wchan, []byte("wait_for_more_packets"))
	})
}
