package guard

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// slim gives back the memory that the start has taken and what follows does not
// need, in a guard that stays. Of a heap of half a megabyte a kernel whose
// transparent huge pages are always on makes two pages of two megabytes; and
// each page of this file that was looked at once, most of them by the runtime as
// it began, counts as this process's until it is let go. What is needed again is
// found in the kernel's cache.
func slim() error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	var file []mapping
	for line := range strings.Lines(string(maps)) {
		m, ok := parseMapping(line)
		switch {
		case !ok:
		case m.anonymous && m.perms == "rw-p":
			m.advise(unix.MADV_NOHUGEPAGE)
		case !m.anonymous && m.perms[1] == '-': // what is written to must not be let go
			file = append(file, m)
		}
	}
	debug.FreeOSMemory() // which splits the huge pages
	for _, m := range file {
		m.advise(unix.MADV_DONTNEED)
	}
	return nil
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
