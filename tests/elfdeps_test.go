package tests

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/image/elfdeps"
	"hapax/tests/need"
)

// TestForeignRoot looks for the libraries of arm64 programs in a root made of Debian's packages, on whatever this machine is.
// The judge is the loader of that root itself, under user mode emulation.
func TestForeignRoot(t *testing.T) {
	need.Time(t)
	need.Root(t)
	root := arm64Root(t, "bash", "coreutils", "libacl1", "libattr1", "libc6", "libgcc-s1", "libgmp10", "libpcre2-8-0", "libselinux1", "libtinfo6")
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(qemu)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "qemu"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	r, err := elfdeps.New(root)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "bin/*"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d programs in %s, %v", len(files), root, err)
	}
	compared := 0
	for _, file := range files {
		name := strings.TrimPrefix(file, root)
		const loader = "/lib/ld-linux-aarch64.so.1"
		out, err := exec.CommandContext(t.Context(), "chroot", root, "/qemu", loader, "--list", name).Output()
		if err != nil {
			continue // a script
		}
		var want []string
		for line := range strings.Lines(string(out)) {
			if words := strings.Fields(line); len(words) >= 3 && words[1] == "=>" {
				want = append(want, words[2])
			} else if len(words) > 0 && words[0] == loader {
				want = append(want, loader)
			}
		}
		closure, err := r.Closure(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, f := range closure[1:] {
			if !f.Open {
				got = append(got, f.Name)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(slices.Compact(want), got); diff != "" {
			t.Errorf("%s (-loader +hapax):\n%s", name, diff)
		}
		compared++
	}
	t.Logf("%d programs compared", compared)
	if compared < 20 {
		t.Errorf("only %d programs to compare: not a test", compared)
	}
}

// arm64Root downloads packages of another architecture and unpacks them, in the place of a kernel's metapackage the kernel. apt
// gets a state of its own, so the system's stays what it is.
func arm64Root(t *testing.T, packages ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	conf := fmt.Sprintf("APT::Architecture \"arm64\";\nAPT::Architectures { \"arm64\"; };\nDir::State %q;\nDir::State::status %q;\nDir::Cache %q;\n",
		filepath.Join(dir, "state"), filepath.Join(dir, "status"), filepath.Join(dir, "cache"))
	for name, text := range map[string]string{"apt.conf": conf, "status": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) string {
		t.Helper()
		var errs bytes.Buffer
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Stderr = dir, &errs
		cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(dir, "apt.conf"))
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, &errs)
		}
		return string(out)
	}
	run("apt-get", "-q", "update")
	packages = slices.Clone(packages)
	for i, name := range packages {
		if !strings.HasPrefix(name, "linux-image-") {
			continue
		}
		for line := range strings.Lines(run("apt-cache", "depends", name)) { // a metapackage
			if dep, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: linux-image-"); ok {
				packages[i] = "linux-image-" + dep
			}
		}
	}
	run("apt-get", append([]string{"-q", "download"}, packages...)...)
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != len(packages) {
		t.Fatalf("apt-get download left %d files, want %d: %v", len(debs), len(packages), err)
	}
	for _, deb := range debs {
		run("dpkg-deb", "-x", deb, filepath.Join(dir, "root"))
	}
	return filepath.Join(dir, "root")
}
