package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMissing(t *testing.T) {
	all := []tool{
		{"sh", "dash", true}, // every machine has these two
		{"/etc/passwd", "base-passwd", true},
		{"/hapax-absent", "pkg-c", false},
		{"hapax-absent-2", "pkg-b", true},
		{"hapax-absent-1", "pkg-b", false},
		{"hapax-absent-3", "pkg-a", false},
	}
	if d := cmp.Diff([]string{"pkg-b"}, missing(all, "run")); d != "" {
		t.Errorf("missing for run (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"pkg-a", "pkg-b", "pkg-c"}, missing(all, "test")); d != "" {
		t.Errorf("missing for test (-want +got):\n%s", d)
	}
}

// TestInstall does not install: there is nothing to do, or the user may not.
func TestInstall(t *testing.T) {
	a := &apt{}
	if err := a.install(t.Context(), nil); err != nil || a.updated {
		t.Errorf("install of nothing: %v, lists updated: %v", err, a.updated)
	}
	a.euid = 1000
	if a.canUpdate() {
		t.Error("an ordinary user cannot update the lists")
	}
	err := a.install(t.Context(), []string{"kmod", "qemu-system-x86"})
	if err == nil || !strings.Contains(err.Error(), "apt-get install --no-install-recommends kmod qemu-system-x86") {
		t.Errorf("install as a user: %v, want the command to give", err)
	}
	if got := newApt().euid; got != os.Geteuid() {
		t.Errorf("newApt acts for user %d", got)
	}
}
