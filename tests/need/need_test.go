package need

import (
	"fmt"
	"testing"
)

// A recorder is a test that notes how it would have ended.
type recorder struct {
	testing.TB
	failed, skipped string
}

func (r *recorder) Helper() {}
func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	panic(r)
}
func (r *recorder) Skipf(format string, args ...any) {
	r.skipped = fmt.Sprintf(format, args...)
	panic(r)
}
func (r *recorder) Skip(args ...any) { r.skipped = fmt.Sprint(args...); panic(r) }

// ended returns how f ends a test.
func ended(f func(t testing.TB)) (failed, skipped bool) {
	r := new(recorder)
	func() {
		defer func() { _ = recover() }()
		f(r)
	}()
	return r.failed != "", r.skipped != ""
}

func TestStrict(t *testing.T) {
	missing := func(t testing.TB) { Tools(t, "true", "no-such-program") }
	for _, tt := range []struct {
		name, strict, full string
		f                  func(t testing.TB)
		failed, skipped    bool
	}{
		{name: "plain", f: missing, skipped: true},
		{name: "make test", strict: "1", f: missing, failed: true},
		{name: "file", strict: "1", f: func(t testing.TB) { Files(t, "/no/such/file") }, failed: true},
		{name: "no trees", strict: "1", f: func(t testing.TB) { Trees(t) }, failed: true},
		{name: "there", strict: "1", f: func(t testing.TB) { Tools(t, "true"); Files(t, "/") }},
		{name: "minutes, make test", strict: "1", f: Time, skipped: true},
		{name: "minutes, make test-full", strict: "1", full: "1", f: Time},
	} {
		t.Setenv(StrictEnv, tt.strict)
		t.Setenv(FullEnv, tt.full)
		t.Setenv(TreesEnv, "")
		if failed, skipped := ended(tt.f); failed != tt.failed || skipped != tt.skipped {
			t.Errorf("%s: failed %v, skipped %v, want %v, %v", tt.name, failed, skipped, tt.failed, tt.skipped)
		}
	}
}
