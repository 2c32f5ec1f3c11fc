package debian

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hapax/tests/need"
)

func TestParseControl(t *testing.T) {
	tests := []struct {
		name, text string
		want       control
	}{
		{"alternatives, versions, architectures", "\nPackage: udev\nVersion: 1:252.39-1\nDescription-en: devices\n Depends: not a field\n" +
			"Depends: libc6 (>= 2.34), adduser | systemd-sysusers, perl:any, a[amd64]\nPre-Depends: libkmod2 (>= 5~)\n",
			control{name: "udev", version: "1:252.39-1", depends: []string{"libkmod2", "libc6", "adduser", "perl", "a"}}},
		{"only the first paragraph", "Package: a\nVersion: 2\n\nPackage: a\nVersion: 1\nDepends: b\n", control{name: "a", version: "2"}},
		{"empty groups", "Package: a\nVersion: 1\nDepends: , |b, \n", control{name: "a", version: "1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseControl(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			got.text = ""
			if d := cmp.Diff(tt.want, got, cmp.AllowUnexported(control{})); d != "" {
				t.Errorf("parseControl (-want +got):\n%s", d)
			}
		})
	}
	for _, bad := range []string{"", "Package: a\n", "Version: 1\n", "Package: ../a\nVersion: 1\n"} {
		if c, err := parseControl(bad); err == nil {
			t.Errorf("parseControl(%q) = %+v, want an error", bad, c)
		}
	}
}

// TestOfflineCache asks for a package that apt does not know: the version that was fetched last is taken.
func TestOfflineCache(t *testing.T) {
	s := &Store{Dir: t.TempDir()}
	const name = "hapax-test-no-such-package"
	if p, err := s.Package(t.Context(), name); err == nil {
		t.Fatalf("Package of an empty store = %+v, want an error", p)
	}
	now := time.Now()
	for i, version := range []string{"1.0-1", "1.0-2", "0.9-3"} {
		dir := filepath.Join(s.Dir, name+"_"+version)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, controlFile)
		if err := os.WriteFile(file, []byte("Package: "+name+"\nVersion: "+version+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		at := now.Add(-time.Hour * time.Duration(1+(i+1)%3)) // 1.0-2 is the oldest, 0.9-3 the youngest
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	p, err := s.Package(t.Context(), name)
	if err != nil || p.Version != "0.9-3" {
		t.Errorf("Package = %+v, %v, want version 0.9-3", p, err)
	}
}

// TestPackage fetches a small real package twice; the second time nothing is downloaded.
func TestPackage(t *testing.T) {
	need.Long(t)
	var fetched int
	s := &Store{Dir: t.TempDir(), Logf: func(string, ...any) { fetched++ }}
	for range 2 {
		p, err := s.Package(t.Context(), "libudev1")
		if err != nil {
			t.Fatal(err)
		}
		if libs, _ := filepath.Glob(filepath.Join(p.Root, "*/*/*/libudev.so.1")); len(libs) == 0 {
			if libs, _ = filepath.Glob(filepath.Join(p.Root, "*/*/libudev.so.1")); len(libs) == 0 {
				t.Errorf("%s holds no libudev.so.1", p.Root)
			}
		}
	}
	if fetched != 1 {
		t.Errorf("fetched %d times, want once", fetched)
	}
	left, err := filepath.Glob(filepath.Join(s.Dir, ".new-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
