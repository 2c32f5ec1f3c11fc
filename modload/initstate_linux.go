package modload

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ReadPresent returns the names of the modules that are in the kernel, read from
// /proc/modules. A module that another loader is inserting at this moment is
// left out: Load waits for it.
func ReadPresent() ([]string, error) {
	b, err := os.ReadFile("/proc/modules")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // a kernel without modules
	}
	if err != nil {
		return nil, err
	}
	return presentIn(string(b)), nil
}

// presentIn returns the live modules of a /proc/modules text, whose lines read
// "name size refcount users state address".
func presentIn(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 5 && f[4] == "Live" {
			names = append(names, f[0])
		}
	}
	return names
}

// ReadSizes returns the bytes that each module in the kernel takes, by its name
// there. It reads /proc/modules; what cannot be read has no size.
func ReadSizes() map[string]int64 {
	b, err := os.ReadFile("/proc/modules")
	if err != nil {
		return nil
	}
	sizes := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 {
			sizes[f[0]], _ = strconv.ParseInt(f[1], 10, 64)
		}
	}
	return sizes
}

// foreignLimit is how long a module that another program is inserting or
// removing is waited for: as long as a request of the kernel is.
const foreignLimit = 30 * time.Second

// awaitForeign returns "live" if the kernel has the module, "" if it does not.
// A module that another program is inserting or removing at this moment is
// waited for: finit_module would do the same and count a failure in the end.
// Such a program may be an earlier process of ours, killed while the module's
// init function hung; after foreignLimit the answer is "coming" or "going".
func (k *Kernel) awaitForeign(name string) string {
	begun := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		state := k.initstate(name)
		if state != "coming" && state != "going" || time.Since(begun) >= foreignLimit {
			return state
		}
		time.Sleep(wait)
	}
}

// initstate returns the text of /sys/module/NAME/initstate: "coming", "live"
// or "going", and "" if the kernel does not have the module. The folder of a
// built-in has no such file.
func initstate(name string) string {
	fd, err := unix.Open("/sys/module/"+name+"/initstate", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var buf [16]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return "" // ENODEV while it is being torn down
	}
	return string(bytes.TrimSpace(buf[:n]))
}
