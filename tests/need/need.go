// Package need says what a test needs beyond the Go toolchain, and what becomes of the test where that is not there.
//
// In a plain go test it is skipped, with the reason. In make test, which installs everything and runs as root in CI, it
// fails: there a skip would be a test that nobody runs. Only what takes minutes may be left out, to make test-full.
// All tests of the module skip by way of this package; tests/arch_test.go holds that.
package need

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The environment that tells where a test runs.
const (
	StrictEnv = "HAPAX_TEST_STRICT"  // set by tests/setup for root: nothing may be missing
	FullEnv   = "HAPAX_TEST_FULL"    // set by make test-full
	TreesEnv  = "HAPAX_TEST_MODULES" // set by tests/setup: lib/modules/RELEASE folders of real kernels, separated by colons
)

// Unmet ends a test for want of something. The text says what, and where it comes from.
func Unmet(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv(StrictEnv) != "" {
		t.Fatalf("make test has to run this test: "+format, args...)
	}
	t.Skipf(format, args...)
}

// Root ends a test that does what root alone may do.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Unmet(t, "needs root: left to make test as root")
	}
}

// Tools ends a test if a program is not installed.
func Tools(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			Unmet(t, "needs %s, which go run ./tests/setup --for test installs: %v", name, err)
		}
	}
}

// Files ends a test if a file of a system package is not there.
func Files(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := os.Stat(name); err != nil {
			Unmet(t, "needs a file of a package that go run ./tests/setup --for test installs: %v", err)
		}
	}
}

// Trees returns the module folders of the real kernels, of which there is one at least.
func Trees(t testing.TB) []string {
	t.Helper()
	trees := filepath.SplitList(os.Getenv(TreesEnv))
	if len(trees) == 0 {
		Unmet(t, "%s names no lib/modules/RELEASE folder: make test sets it", TreesEnv)
	}
	return trees
}

// Long leaves a test to make test when only the unit tier runs (go test -short).
func Long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		Unmet(t, "boots guests, makes file systems or fetches packages: left to make test")
	}
}

// Full reports whether tests are to try all that they can, as in make test-full, instead of a selection.
func Full() bool { return os.Getenv(FullEnv) != "" }

// Time leaves a test that takes a minute and more to make test-full. What it holds in many combinations, a test of make test
// holds in one.
func Time(t testing.TB) {
	t.Helper()
	if !Full() {
		t.Skip("takes more than a minute: left to make test-full")
	}
}
