package lab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hapax/tests/internal/debian"
)

func TestMemo(t *testing.T) {
	var m memo
	var made atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got, err := m.file("a", func() (string, error) {
				made.Add(1)
				return "file a", nil
			})
			if got != "file a" || err != nil {
				t.Errorf("file = %q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if n := made.Load(); n != 1 {
		t.Errorf("made %d times, want once", n)
	}
	failure := errors.New("no")
	if _, err := m.file("b", func() (string, error) { return "", failure }); !errors.Is(err, failure) {
		t.Errorf("file of another key: %v, want its own error", err)
	}
}

func TestLink(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "link")
	for _, target := range []string{"a", "a", "b"} {
		if err := link(filepath.Join(dir, target), file); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(file); err != nil || got != target {
			t.Errorf("link leads to %q, %v, want %q", got, err, target)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v: want the link alone", entries, err)
	}
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	failure := errors.New("no")
	if err := create(filepath.Join(dir, "f"), func(*os.File) error { return failure }); !errors.Is(err, failure) {
		t.Errorf("create: %v, want what fill said", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v: want nothing left", entries, err)
	}
}

// modulesDir makes a folder with the index of three modules.
func modulesDir(t *testing.T) debian.Kernel {
	t.Helper()
	k := debian.Kernel{Release: "1.0", ModulesDir: t.TempDir()}
	dep := "kernel/net/fail-over.ko.xz:\nkernel/net/net_failover.ko: kernel/net/fail-over.ko.xz\nkernel/over.ko:\n"
	for name, content := range map[string]string{"modules.dep": dep, "kernel/net/fail-over.ko.xz": "12345678"} {
		file := filepath.Join(k.ModulesDir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func TestModuleFile(t *testing.T) {
	k := modulesDir(t)
	for name, want := range map[string]string{
		"fail_over": "kernel/net/fail-over.ko.xz", "net_failover": "kernel/net/net_failover.ko", "over": "kernel/over.ko", "failover": "",
	} {
		if got, err := moduleFile(k.ModulesDir, name); got != want || (err == nil) != (want != "") {
			t.Errorf("moduleFile(%s) = %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestTruncateModule(t *testing.T) {
	k := modulesDir(t)
	base := filepath.Join(t.TempDir(), "base")
	if err := os.WriteFile(base, []byte("base!"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := base + ".cut"
	if err := TruncateModule(out, base, k, "fail_over"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got := string(b)
	if !strings.HasPrefix(got, "base!\x00\x00\x00070701") {
		t.Errorf("image begins with %.20q, want base, padded to four bytes, and an archive", got)
	}
	if !strings.Contains(got, "lib/modules/1.0/kernel/net/fail-over.ko.xz\x00") || !strings.Contains(got, "1234") || strings.Contains(got, "12345") {
		t.Errorf("image %q, want half of the module", got)
	}
}

func TestImageName(t *testing.T) {
	const key = "hapax 6.1 --mode all --shell /build/tests/guest"
	if got, want := imageName(key), "hapax-6.1-mode-all-shell-guest"; got != want {
		t.Errorf("imageName(%q) = %q, want %q", key, got, want)
	}
}

// TestLibraries looks for libraries in packages that hold few files.
func TestLibraries(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"bin/text", "lib/x86_64-linux-gnu/liba.so.1"} {
		file := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("not ELF\n"), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if needed, err := neededBy(filepath.Join(root, "bin/text")); err != nil || needed != nil {
		t.Errorf("neededBy(a text) = %q, %v, want nothing", needed, err)
	}
	if needed, err := neededBy(filepath.Join(root, "absent")); err != nil || needed != nil {
		t.Errorf("neededBy(nothing) = %q, %v, want nothing", needed, err)
	}
	pkgs := []debian.Package{{Root: t.TempDir()}, {Root: root}}
	if name, source := findLibrary(pkgs, "liba.so.1"); name != "lib/x86_64-linux-gnu/liba.so.1" || source != filepath.Join(root, name) {
		t.Errorf("findLibrary = %q, %q", name, source)
	}
	if name, source := findLibrary(pkgs, "libb.so.1"); name != "" || source != "" {
		t.Errorf("findLibrary of nothing = %q, %q", name, source)
	}
}
