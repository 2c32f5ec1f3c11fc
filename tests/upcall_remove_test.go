package tests

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/tests/internal/guest"
)

// tryRemoval removes modules by all three programs and has one of them come back.
func tryRemoval(t *testing.T, c guest.Client) {
	t.Helper()
	before := ask[report](t, c, guest.Report, "")
	runs(t, c, 0, "/sbin/modprobe -r overlay wp512")
	runs(t, c, 0, "/sbin/rmmod vfat")
	runs(t, c, 0, "/sbin/hapaxctl unload squashfs")
	if said := runs(t, c, 1, "/sbin/rmmod x_tables"); !strings.Contains(said, "in use by") {
		t.Errorf("rmmod of a module that others use: %q", said)
	}
	if said := runs(t, c, 1, "/sbin/rmmod overlay"); !strings.Contains(said, "not currently loaded") {
		t.Errorf("rmmod of a module that is gone: %q", said)
	}
	runs(t, c, 1, "/sbin/modprobe -r hx_nosuch")
	if got := ask[string](t, c, guest.Mount, "squashfs none /tmp/m"); got != "ENOENT" {
		t.Errorf("mount of a type that was removed: %s, want ENOENT", got)
	}
	want := map[string]bool{"overlay": false, "wp512": false, "vfat": false, "squashfs": true, "x_tables": true}
	if diff := cmp.Diff(want, loaded(t, c, "overlay", "wp512", "vfat", "squashfs", "x_tables")); diff != "" {
		t.Errorf("modules after the removals (-want +got):\n%s", diff)
	}
	r := settledReport(t, c)
	if r.Removed != before.Removed+4 || r.Finit != before.Finit+1 || r.Duplicates != 0 {
		t.Errorf("report: %d removed before and %d now, %d calls before and %d now, %d duplicates; want 4 removed and 1 call",
			before.Removed, r.Removed, before.Finit, r.Finit, r.Duplicates)
	}
}

// tryCommands has modules come in by the install commands of upcallConfig.
func tryCommands(t *testing.T, c guest.Client) {
	t.Helper()
	ask[string](t, c, guest.Open, strings.TrimPrefix(opens(minorSlow), guest.Open+" "))
	if got := strings.TrimSpace(ask[string](t, c, guest.Cat, "/tmp/slow")); got != "ms=1" {
		t.Errorf("the command was given the parameters %q, want ms=1", got)
	}
	runs(t, c, 0, "/sbin/modprobe hx_user")   // the command of what it needs asks for it
	runs(t, c, 1, "/sbin/modprobe hx_other")  // its command asks for itself
	runs(t, c, 0, "/sbin/modprobe hx_second") // it has soft dependencies beside its command
	want := map[string]bool{"hx_slow": true, "hx_base": true, "hx_user": true, "hx_other": false,
		"hx_second": true, "hx_third": true, "hx_first": true}
	if diff := cmp.Diff(want, loaded(t, c, "hx_slow", "hx_base", "hx_user", "hx_other", "hx_second", "hx_third", "hx_first")); diff != "" {
		t.Errorf("modules after their install commands (-want +got):\n%s", diff)
	}
	if r := settledReport(t, c); r.Duplicates != 0 {
		t.Errorf("report: %d duplicates", r.Duplicates)
	}
}
