package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// hapax runs the command and returns its exit code, output and errors.
func hapax(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// moduleTree makes a module tree of two modules and a file for /init, and returns both.
func moduleTree(t *testing.T) (tree, init string) {
	t.Helper()
	tree = filepath.Join(t.TempDir(), "lib/modules/6.1-test")
	for name, content := range map[string]string{
		"modules.dep":                        "kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko\nkernel/drivers/virtio/virtio.ko:\n",
		"modules.alias":                      "",
		"modules.symbols":                    "",
		"modules.builtin":                    "",
		"kernel/drivers/block/virtio_blk.ko": "block",
		"kernel/drivers/virtio/virtio.ko":    "virtio",
		"init":                               "#!",
	} {
		file := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return tree, filepath.Join(tree, "init")
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ args, want string }{
		{"frobnicate", `unknown command "frobnicate" for "hapax" (see hapax --help)`},
		{"--frobnicate", "unknown flag: --frobnicate (see hapax --help)"},
		{"build", "accepts 1 arg(s), received 0 (see hapax build --help)"},
		{"build a b", "accepts 1 arg(s), received 2"},
		{"build --frobnicate x", "unknown flag: --frobnicate (see hapax build --help)"},
		{"build --format tar x", `"--format" flag: use initramfs`},
		{"build --mode local x", `"--mode" flag: use universal, host, profile, custom, all`},
		{"build --compression rar x", `"--compression" flag: use lz4, zstd, xz, gzip, none`},
		{"build --modules=- x", "names no module to remove"},
		{"build --modules /lib/ x", "is absolute"},
		{"build --include :x out", "names no file"},
		{"build --force=perhaps x", `invalid argument "perhaps"`},
		{"ls", "accepts 1 arg(s), received 0 (see hapax ls --help)"},
		{"cat image", "requires at least 2 arg(s), only received 1 (see hapax cat --help)"},
		{"check --shell maybe x", `"--shell" flag: use any, required, forbidden`},
		{"check --host --profile p x", "none of the others can be"},
		{"diff a", "accepts 2 arg(s), received 1"},
		{"unpack --max-size 4T a b", `"4T" is no size`},
		{"ls -l --json x", "none of the others can be"},
		{"run a b", "accepts at most 1 arg(s), received 2"},
		{"run --smp 0", `"0" is no positive number`},
		{"run --memory 1T", `"1T" is no size`},
		{"run --accel xen", `"--accel" flag: use auto, kvm, tcg`},
		{"run --timeout soon", `invalid argument "soon"`},
		{"version x", "unknown command"},
	} {
		code, stdout, stderr := hapax(t, strings.Fields(tt.args)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, tt.want) || !isOneLine(stderr) {
			t.Errorf("hapax %s = %d, %q, %q; want 2 and one line with %q", tt.args, code, stdout, stderr, tt.want)
		}
	}
}

func isOneLine(s string) bool {
	return strings.HasPrefix(s, "hapax: ") && strings.Count(s, "\n") == 1 && strings.HasSuffix(s, "\n")
}

func TestFailures(t *testing.T) {
	t.Parallel()
	tree, init := moduleTree(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "image")
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("no image"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"build", "--modules-dir", "/nonexistent", "--init", init, out}, "/nonexistent: no such folder"},
		{[]string{"build", "--modules-dir", tree, "--init", "/nonexistent", out}, "/nonexistent: no such file"},
		{[]string{"build", "--modules-dir", tree, "--init", init, "--modules", "virtio_blc", out}, "did you mean virtio_blk?"},
		{[]string{"build", "--modules-dir", tree, "--init", init, "--modules", "virtio_blk,-virtio", out}, "virtio_blk needs virtio"},
		{[]string{"build", "--modules-dir", tree, "--init", init, text}, "use --force"},
		{[]string{"build", "--modules-dir", tree, "--init", init, "/nonexistent/image"}, "/nonexistent/"},
		{[]string{"ls", "/nonexistent"}, "open /nonexistent: no such file"},
		{[]string{"ls", dir}, "not a regular file"},
		{[]string{"ls", text}, text + ": archive 1 (none), byte 0: begins with \"no image\""},
		{[]string{"run", "--kernel", "/nonexistent", text}, "open /nonexistent: no such file"},
		{[]string{"run", "--kernel", text, "/nonexistent"}, "open /nonexistent: no such file"},
		{[]string{"run", "--kernel", text, "--disk", "/nonexistent", text}, "open /nonexistent: no such file"},
		{[]string{"run", "--kernel", text, "--timeout", "-5s", text}, "--timeout -5s"},
		{[]string{"run", "--kernel", text}, "no build/universal.img here: name the image"},
	} {
		code, _, stderr := hapax(t, tt.args...)
		if code != exitFailed || !strings.Contains(stderr, tt.want) || !isOneLine(stderr) {
			t.Errorf("hapax %q = %d, %q; want 1 and one line with %q", tt.args, code, stderr, tt.want)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a build that failed left an image")
	}
}

func TestBuildAndList(t *testing.T) {
	t.Parallel()
	tree, init := moduleTree(t)
	out := filepath.Join(t.TempDir(), "image")
	build := []string{"build", "--modules-dir", tree, "--init", init, "--mode", "all", "--force-load", "virtio_blk,virtio", out}
	code, stdout, stderr := hapax(t, build...)
	if code != exitDone || stderr != "" {
		t.Fatalf("hapax build = %d, %q", code, stderr)
	}
	if !strings.HasPrefix(stdout, out+": 2 modules of 6.1-test, ") || !strings.HasSuffix(stdout, "with lz4\n") {
		t.Errorf("summary %q", stdout)
	}

	code, names, stderr := hapax(t, "ls", out)
	if code != exitDone || stderr != "" || !strings.Contains(names, "\nlib/modules/6.1-test/kernel/drivers/block/virtio_blk.ko\n") {
		t.Errorf("hapax ls = %d, %q, %q", code, names, stderr)
	}
	code, long, _ := hapax(t, "ls", "--long", out)
	if code != exitDone || !strings.Contains(long, "Dcrw------- 0:0        5,1 dev/console\n") || strings.Count(long, "\n") != strings.Count(names, "\n") {
		t.Errorf("hapax ls --long = %d, %q", code, long)
	}
	code, stdout, _ = hapax(t, "ls", "--json", out)
	var list listing
	if err := json.Unmarshal([]byte(stdout), &list); code != exitDone || err != nil {
		t.Fatalf("hapax ls --json = %d, %v", code, err)
	}
	if list.Image != out || len(list.Formats) != 1 || list.Formats[0] != "lz4" || len(list.Files) != strings.Count(names, "\n") {
		t.Errorf("listing of %s in %q: %d files", list.Image, list.Formats, len(list.Files))
	}

	code, stdout, _ = hapax(t, append(build, "--force", "--json", "--compression=none")...)
	var summary map[string]any
	if err := json.Unmarshal([]byte(stdout), &summary); code != exitDone || err != nil {
		t.Fatalf("hapax build --json = %d, %v", code, err)
	}
	size := summary["size_bytes"]
	delete(summary, "content_bytes")
	delete(summary, "size_bytes")
	want := map[string]any{"output": out, "format": "initramfs", "firmware": 0.0, "release": "6.1-test", "modules": 2.0, "files": float64(len(list.Files)), "compression": "none"}
	if diff := cmp.Diff(want, summary); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(out); err != nil || float64(info.Size()) != size {
		t.Errorf("size %v in the summary, file %v, %v", size, info, err)
	}
}

// A listing shows what it could read, and never sends control bytes to the terminal.
func TestListDamaged(t *testing.T) {
	t.Parallel()
	tree, init := moduleTree(t)
	dir := t.TempDir()
	odd := filepath.Join(dir, "evil\x1b[2J\n")
	if err := os.WriteFile(odd, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "image")
	if code, _, stderr := hapax(t, "build", "--modules-dir", tree, "--init", init, "--include", odd+":a/", "--compression", "none", out); code != exitDone {
		t.Fatal(stderr)
	}
	whole, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(out, whole[:len(whole)-200], 0o644); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := hapax(t, "ls", out)
	if code != exitFailed || !strings.Contains(stderr, "cut short") || !isOneLine(stderr) {
		t.Errorf("hapax ls of a cut image = %d, %q", code, stderr)
	}
	if !strings.Contains(stdout, `"a/evil\x1b[2J\n"`+"\n") || strings.Contains(stdout, "\x1b") {
		t.Errorf("hapax ls prints %q", stdout)
	}
}

func TestSourceDate(t *testing.T) {
	tree, init := moduleTree(t)
	out := filepath.Join(t.TempDir(), "image")
	build := []string{"build", "-f", "--modules-dir", tree, "--init", init, out}
	for value, want := range map[string]int64{"": 0, "1700000000": 1700000000} {
		t.Setenv("SOURCE_DATE_EPOCH", value)
		if code, _, stderr := hapax(t, build...); code != exitDone {
			t.Fatal(stderr)
		}
		_, stdout, _ := hapax(t, "ls", "--json", out)
		var list listing
		if err := json.Unmarshal([]byte(stdout), &list); err != nil || len(list.Files) == 0 || list.Files[0].Time != want {
			t.Errorf("SOURCE_DATE_EPOCH=%s gives time %+v, %v", value, list.Files[:1], err)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "today")
	if code, _, stderr := hapax(t, build...); code != exitFailed || !strings.Contains(stderr, "SOURCE_DATE_EPOCH=today") {
		t.Errorf("hapax build with a wrong date = %d, %q", code, stderr)
	}
}

func TestVersionHelpAndCompletion(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"version":                          "hapax ",
		"--help":                           "Available Commands:",
		"build --help":                     "--modules LIST",
		"completion bash":                  "bash completion",
		"completion zsh":                   "#compdef hapax",
		"completion fish":                  "fish completion",
		"__complete build --compression z": "zstd",
		"__complete build --mode u":        "universal",
		"__completeNoDesc run --accel t":   "tcg",
	} {
		if code, stdout, stderr := hapax(t, strings.Fields(args)...); code != exitDone || !strings.Contains(stdout, want) {
			t.Errorf("hapax %s = %d, %.80q, %q; want %q", args, code, stdout, stderr, want)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newProgress(&out)
	p.next = time.Time{}
	p.update(1, 2)
	p.clear()
	if out.Len() != 0 {
		t.Errorf("progress on no terminal: %q", &out)
	}
	p.w = &out
	p.update(0, 0) // nothing to divide by
	p.update(500_000, 2_000_000)
	p.update(1, 2) // too early again
	p.clear()
	p.clear()
	if got, want := out.String(), "\r\x1b[Khapax: 25 % of 2.0 MB\r\x1b[K"; got != want {
		t.Errorf("progress %q, want %q", got, want)
	}
}

func TestFormatBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 bytes", 999: "999 bytes", 1500: "1.5 kB", 12_345_678: "12.3 MB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("formatBytes(%d) = %q, want %q", n, got, want)
		}
	}
}
