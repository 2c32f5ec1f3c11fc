package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tailLines is how much of the console a failed test prints.
const tailLines = 60

// starts is how often Run starts a guest in all.
const starts = 3

// Run starts a guest for the rest of the test, which ends at once if QEMU does not start. After the test the guest is
// killed; if the test has failed, the console's log is kept below logs and its last lines are printed.
//
// A kernel that dies of an exception before it starts its init has run nothing that a test is about. Under emulation that
// happens about once in some hundred boots of many CPUs; the guest is started again, which the test's log tells.
func Run(t testing.TB, logs string, cfg Config) *VM {
	t.Helper()
	v := start(t, cfg)
	for n := 1; n < starts && v.diesEarly(); n++ {
		t.Logf("%s: the kernel died before it started init, so the guest is started again: %s", cfg.Name, v.console.panicLine())
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		v = start(t, cfg)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
		if !t.Failed() {
			return
		}
		lines := v.Lines()
		path, err := save(logs, strings.TrimRight(t.Name()+"-"+cfg.Name, "-"), lines)
		if err != nil {
			t.Error(err)
		}
		t.Logf("the console's last lines (all %d: %s):\n%s", len(lines), path, join(lines[max(0, len(lines)-tailLines):]))
	})
	return v
}

func start(t testing.TB, cfg Config) *VM {
	t.Helper()
	v, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// diesEarly waits until the kernel has started init, or has died of an exception before that, and tells which. It does not
// wait for guests that do not say so: quiet ones, those without a console, and those that are to panic.
func (v *VM) diesEarly() bool {
	if v.mute {
		return false
	}
	for {
		state, news := v.console.early()
		if state != booting {
			return state == diedEarly
		}
		<-news // the guest's limit ends the wait in any case
	}
}

// save writes a log file of the given name and returns its path.
func save(dir, name string, lines []Line) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, strings.ReplaceAll(name, "/", "_")+".log")
	return path, os.WriteFile(path, []byte(join(lines)), 0o644)
}

func join(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintln(&b, l)
	}
	return b.String()
}
