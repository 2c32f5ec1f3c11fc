// Package slim keeps the processes that stay small.
//
// A kernel whose transparent huge pages are always on, as Debian's are, gives a
// Go program of half a megabyte three pages of two megabytes: two for the heap
// and one for its variables. So the program asks for none before the runtime
// begins (init/entry_*.s), which holds for all memory that is touched from then
// on, and for every program that is started. Start takes that back for the
// others, and keeps it for what this process has.
package slim

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Start is to be called once /proc is mounted, before anything is started.
func Start() {
	for _, m := range mappings() {
		if m.anonymous && m.perms == "rw-p" {
			m.advise(unix.MADV_NOHUGEPAGE)
		}
	}
	Allow()
}

// Allow lets this process and those that it starts have huge pages again.
func Allow() { _ = unix.Prctl(unix.PR_SET_THP_DISABLE, 0, 0, 0, 0) }

// Trim gives back what a process has needed to come up and does not any more:
// garbage, and the pages of its file. Each that was looked at once, most of
// them by the runtime as it began, counts as the process's until it is let go;
// what is needed again is found in the kernel's cache.
func Trim() {
	debug.FreeOSMemory()
	for _, m := range mappings() {
		if !m.anonymous && m.perms[1] == '-' { // what is written to must not be let go
			m.advise(unix.MADV_DONTNEED)
		}
	}
}

// mappings returns the address space of this process, or nothing if there is no
// /proc.
func mappings() []mapping {
	text, _ := os.ReadFile("/proc/self/maps")
	var all []mapping
	for line := range strings.Lines(string(text)) {
		if m, ok := parseMapping(line); ok {
			all = append(all, m)
		}
	}
	return all
}

// A mapping is a part of the address space.
type mapping struct {
	begin, end uintptr
	perms      string // such as "rw-p"
	anonymous  bool   // no file is behind it
}

// parseMapping reads a line of /proc/PID/maps. It reports false for those that
// the kernel gives a name of its own, such as [stack].
func parseMapping(line string) (m mapping, ok bool) {
	// begin-end perms offset device inode [path]
	f := strings.Fields(line)
	if len(f) < 5 || len(f[1]) != 4 || len(f) > 5 && f[5][0] == '[' {
		return mapping{}, false
	}
	begin, end, _ := strings.Cut(f[0], "-")
	b, err := strconv.ParseUint(begin, 16, 64)
	e, err2 := strconv.ParseUint(end, 16, 64)
	if err != nil || err2 != nil || b >= e {
		return mapping{}, false
	}
	return mapping{uintptr(b), uintptr(e), f[1], f[4] == "0"}, true
}

// advise tells the kernel what is to become of a mapping. It is advice: what an
// old kernel does not know is not done.
func (m mapping) advise(advice int) {
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.begin, m.end-m.begin, uintptr(advice))
}
