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

// Run starts a guest for the rest of the test, which ends at once if QEMU does not start. After the test the guest is
// killed; if the test has failed, the console's log is kept below logs and its last lines are printed.
func Run(t testing.TB, logs string, cfg Config) *VM {
	t.Helper()
	v, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
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
