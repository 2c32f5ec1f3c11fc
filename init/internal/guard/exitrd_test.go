package guard

import (
	"os"
	"path/filepath"
	"testing"

	"hapax/init/internal/cmdline"
)

// The helper is called by systemd-shutdown(8) as /shutdown with a verb, and by
// nobody else.
func TestExitCalled(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want bool
	}{
		{[]string{"/shutdown", "poweroff"}, true},
		{[]string{"/shutdown", "kexec", "--timeout=90000000us"}, true},
		{[]string{"/shutdown"}, false},
		{[]string{"/shutdown", "exit"}, false},
		{[]string{"/init", "reboot"}, false},
		{nil, false},
	} {
		if got := ExitCalled(tt.args); got != tt.want {
			t.Errorf("ExitCalled(%q) = %v", tt.args, got)
		}
	}
}

// The folder has what systemd-shutdown mounts on, and the program under the name
// by which it is executed.
func TestPlaceExit(t *testing.T) {
	t.Parallel()
	dir, self := filepath.Join(t.TempDir(), "initramfs"), filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(self, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second switch_root, after one that failed, finds the first copy
		if err := placeExit(dir, self); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "shutdown"))
	if err != nil || string(b) != "program" {
		t.Errorf("shutdown has %q, %v", b, err)
	}
	if st, err := os.Stat(filepath.Join(dir, "shutdown")); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("shutdown: %v, %v", st.Mode(), err)
	}
	for _, sub := range exitDirs() {
		if st, err := os.Stat(filepath.Join(dir, sub)); err != nil || !st.IsDir() {
			t.Errorf("%s: %v", sub, err)
		}
	}
}

// A root on an overlay needs the helper; one on a file system that is no block
// device's does not.
func TestLayered(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{"root=overlay:/dev/vda2": true, "root=/dev/vda2": false} {
		g := &guard{params: cmdline.Parse(line)}
		if got := g.layered("/proc"); got != want {
			t.Errorf("%s: layered %v", line, got)
		}
	}
}
