package applet

import (
	"fmt"
	"os"
	"strings"
)

// runLsmod is lsmod(8): /proc/modules, with the rest from sysfs.
func runLsmod(e *env, args []string) int {
	if len(args) > 0 {
		fmt.Fprintf(e.stderr, "Usage: %s\n", e.argv0)
		return 1
	}
	list, err := os.ReadFile(e.path("proc/modules"))
	if err != nil {
		fmt.Fprintf(e.stderr, "Error: could not get list of modules: %s\n", strerror(err))
		return 1
	}
	fmt.Fprintln(e.stdout, "Module                  Size  Used by")
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		name := fields[0]
		size := fields[1]
		if n := e.number(name, "coresize"); n >= 0 {
			size = fmt.Sprint(n)
		}
		holders, _ := e.holders(name) // one that is gone by now has none
		used := fmt.Sprintf("%-19s %8s  %d %s", name, size, e.number(name, "refcnt"), strings.Join(holders, ","))
		fmt.Fprintln(e.stdout, strings.TrimRight(used, " "))
	}
	return 0
}
