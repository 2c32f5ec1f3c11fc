package applet

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/init/internal/shutdown"
)

// PID 1 is told before anything waits for a disk; only what goes past PID 1 writes out first.
func TestHalt(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"reboot":                "kill 1 terminated",
		"reboot -n":             "kill 1 terminated",
		"halt":                  "kill 1 user defined signal 1",
		"halt -p":               "kill 1 user defined signal 2",
		"poweroff":              "kill 1 user defined signal 2",
		"poweroff -f":           "sync, reboot(2) poweroff",
		"poweroff -nf":          "reboot(2) poweroff",
		"reboot -f bootloader":  "sync, reboot(2) reboot bootloader",
		"reboot --force -w":     "",
		"halt --no-sync -f":     "reboot(2) halt",
		"hapaxctl reboot -f -n": "reboot(2) reboot",
		"reboot recovery":       "kill 1 terminated",
	} {
		var did []string
		e := &env{root: t.TempDir(), stdout: bufio.NewWriter(io.Discard), stderr: io.Discard}
		e.down = down{
			sync: func() { did = append(did, "sync") },
			kill: func(pid int, sig unix.Signal) error {
				did = append(did, fmt.Sprint("kill ", pid, " ", sig))
				return nil
			},
			reboot: func(m shutdown.Method, arg string) error {
				did = append(did, strings.TrimSpace(fmt.Sprint("reboot(2) ", m, " ", arg)))
				return nil
			},
		}
		if code := run(e, strings.Fields(line)); code != 0 {
			t.Errorf("%s: exit code %d", line, code)
		}
		if diff := cmp.Diff(want, strings.Join(did, ", ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
		left, _ := os.ReadFile(e.path(shutdown.ParamPaths()[0]))
		if got, want := string(left), map[bool]string{true: "recovery\n"}[line == "reboot recovery"]; got != want {
			t.Errorf("%s: left %q for PID 1, want %q", line, got, want)
		}
	}
}
