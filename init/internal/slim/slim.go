// Package slim keeps the processes that stay small.
//
// A kernel whose transparent huge pages are always on, as Debian's are, gives a
// Go program of half a megabyte three pages of two megabytes: two for the heap
// and one for its variables. So the program asks for none before the runtime
// begins (init/entry_*.s), which holds for all memory that is touched from then
// on, and for every program that is started. PID 1, which stays, leaves it so but
// while it starts another (Allow, Forbid): memory that the runtime maps later
// would get huge pages, too. The engine, which mostly goes soon and starts
// programs in several places, keeps it for what it has when it begins (Start).
package slim

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Start keeps this process's memory so far without huge pages, and allows them
// for what comes. It is to be called before anything is started.
func Start() {
	for _, m := range mappings("/proc/self/maps") {
		if m.anonymous && m.perms == "rw-p" {
			m.advise(unix.MADV_NOHUGEPAGE)
		}
	}
	Allow()
}

// Allow lets this process and those that it starts have huge pages again.
func Allow() { set(0) }

// Forbid takes that back.
func Forbid() { set(1) }

//go:noinline
func set(disable uintptr) { _ = unix.Prctl(unix.PR_SET_THP_DISABLE, disable, 0, 0, 0) }

// Trim gives back what a process has needed to come up and does not any more:
// garbage, and the pages of its file. Each that was looked at once, most of
// them by the runtime as it began, counts as the process's until it is let go;
// what is needed again is found in the kernel's cache.
func Trim() {
	debug.FreeOSMemory()
	for _, m := range mappings("/proc/self/smaps") {
		if !m.anonymous && m.clean && m.perms[1] == '-' {
			m.advise(unix.MADV_DONTNEED)
		}
	}
}

// mappings returns the address space of this process from maps or smaps of
// proc(5), or nothing if there is no such file.
func mappings(file string) []mapping {
	text, _ := os.ReadFile(file)
	return parse(string(text))
}

func parse(text string) []mapping {
	var all []mapping
	skipped := true
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ": "); ok && !strings.Contains(key, " ") {
			if key == "Anonymous" && !skipped {
				all[len(all)-1].clean = strings.TrimSpace(value) == "0 kB"
			}
			continue
		}
		m, ok := parseMapping(line)
		if skipped = !ok; ok {
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

	// clean says that the file has all that is in memory. That a mapping is read-only now is no proof: a dynamic linker
	// writes addresses into it before. Only smaps tells.
	clean bool
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
	return mapping{begin: uintptr(b), end: uintptr(e), perms: f[1], anonymous: f[4] == "0"}, true
}

// advise tells the kernel what is to become of a mapping. It is advice: what an
// old kernel does not know is not done.
func (m mapping) advise(advice int) {
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.begin, m.end-m.begin, uintptr(advice))
}
