package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"hapax/image"
	"hapax/image/strict"
)

// Every flag of build is a key of hapax.toml and the other way round, but for those that say how this one run is told and
// what it prints; and the manual of the file has them all.
func TestFlagsAreKeys(t *testing.T) {
	t.Parallel()
	keys := slices.Sorted(strict.Keys(reflect.TypeFor[image.Spec]()))
	keys = slices.DeleteFunc(keys, func(key string) bool { return key == "service" || key == "network" }) // too much for a flag
	var flags []string
	newBuild().Flags().VisitAll(func(f *pflag.Flag) {
		if !slices.Contains([]string{"config", "explain", "json", "help"}, f.Name) {
			flags = append(flags, f.Name)
		}
	})
	slices.Sort(flags)
	if diff := cmp.Diff(keys, flags); diff != "" {
		t.Errorf("(-keys of hapax.toml +flags of hapax build):\n%s", diff)
	}
	manual, err := os.ReadFile("../../../docs/hapax.toml.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if !strings.Contains(string(manual), "| `"+key+"` |") {
			t.Errorf("docs/hapax.toml.md has no line about %s", key)
		}
	}
}

// Settings come from the file, and the command line wins.
func TestBuildConfig(t *testing.T) {
	t.Parallel()
	tree, init := moduleTree(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "settings.toml")
	text := "modules-dir = \"" + tree + "\"\ninit = \"" + init + "\"\nmode = \"all\"\ncompression = \"xz\"\nmodules = [\"-virtio_blk\"]\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "image")
	for _, tt := range []struct {
		args, want string
	}{
		{"", "1 modules of 6.1-test, xz"},
		{"--compression none", "1 modules of 6.1-test, none"},
		{"--modules virtio_blk", "2 modules of 6.1-test, xz"},
		{"--mode custom", "0 modules of 6.1-test, xz"},
	} {
		code, stdout, stderr := hapax(t, slices.Concat([]string{"build", "-f", "--config", file}, strings.Fields(tt.args), []string{out})...)
		words := strings.Fields(stdout)
		if code != exitDone || len(words) < 5 {
			t.Errorf("hapax build %s = %d, %q, %q", tt.args, code, stdout, stderr)
			continue
		}
		if got := strings.Join(words[1:5], " ") + " " + words[len(words)-1]; got != tt.want {
			t.Errorf("hapax build %s: %q, want %q", tt.args, got, tt.want)
		}
	}
	if err := os.WriteFile(file, []byte("moduls = []\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := hapax(t, "build", "--config", file, out)
	if code != exitFailed || !strings.Contains(stderr, "settings.toml:1:1: unknown key moduls; did you mean modules?") || !isOneLine(stderr) {
		t.Errorf("hapax build with a wrong key = %d, %q", code, stderr)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	tree, init := moduleTree(t)
	out := filepath.Join(t.TempDir(), "image")
	build := []string{"build", "-f", "--modules-dir", tree, "--init", init, "--mode", "all", "--modules", "virtio_blk", "--explain", out}
	code, stdout, stderr := hapax(t, build...)
	if code != exitDone || stderr != "" || !strings.Contains(stdout, "kernel/drivers/virtio/virtio.ko ") ||
		!strings.Contains(stdout, "every module of the tree") || strings.Count(stdout, "\n") < 10 {
		t.Errorf("hapax build --explain = %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, _ = hapax(t, append(build, "--json")...)
	var summary image.Result
	if err := json.Unmarshal([]byte(stdout), &summary); code != exitDone || err != nil || len(summary.Explain) < 10 {
		t.Errorf("hapax build --explain --json = %d, %v, %d files", code, err, len(summary.Explain))
	}
}

// What is missing is said once: all of it for a machine that is known, the sum of it for all others.
func TestMissingFirmware(t *testing.T) {
	t.Parallel()
	tree, init := moduleTree(t)
	module := "\x00license=GPL\x00firmware=a.bin\x00firmware=b.bin\x00vermagic=6.1\x00\x00"
	if err := os.WriteFile(filepath.Join(tree, "kernel/drivers/scsi.ko"), []byte(module), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "modules.dep"), []byte("kernel/drivers/scsi.ko:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	firmware := t.TempDir()
	build := []string{"build", "-f", "--modules-dir", tree, "--init", init, "--mode", "all", "--firmware-dir", firmware, filepath.Join(t.TempDir(), "image")}
	if _, _, stderr := hapax(t, build...); stderr != "hapax: 2 firmware files that modules name are missing; --explain lists them\n" {
		t.Errorf("without --explain: %q", stderr)
	}
	want := "hapax: firmware a.bin, named by scsi, is missing\nhapax: firmware b.bin, named by scsi, is missing\n"
	if _, _, stderr := hapax(t, append(build, "--explain")...); stderr != want {
		t.Errorf("with --explain: %q, want %q", stderr, want)
	}
}

func TestProfileRecord(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	file := filepath.Join(root, "sys/devices/x/modalias")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("virtio:d00000002v00001AF4\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := hapax(t, "profile", "record", "--host-root", root)
	if code != exitDone || stderr != "" || !strings.Contains(stdout, `"virtio:d00000002v00001AF4"`) {
		t.Errorf("hapax profile record = %d, %q, %q", code, stdout, stderr)
	}
	if code, _, stderr := hapax(t, "profile", "record", "--host-root", "/nonexistent"); code != exitFailed || !strings.Contains(stderr, "/nonexistent") {
		t.Errorf("hapax profile record of nothing = %d, %q", code, stderr)
	}
}
