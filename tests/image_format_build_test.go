package tests

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/image/archive"
	"hapax/tests/internal/debian"
	"hapax/tests/need"
)

// formatBuilder runs hapax build with small images of all formats.
type formatBuilder struct {
	hapax    string
	k        debian.Kernel
	firmware formatFirmware
	signing  []string
	root     string
}

func newFormatBuilder(t *testing.T) formatBuilder {
	t.Helper()
	l, k := needFirst(t)
	hapax, err := l.Hapax(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := openFirmware(t, l)
	return formatBuilder{hapax, k, f, f.signing(t), formatRoot(t, l)}
}

// formats returns the flags of each format, by its name.
func (b formatBuilder) formats() map[string][]string {
	return map[string][]string{
		"uki":   append([]string{"--format", "uki"}, b.signing...),
		"disk":  append([]string{"--format", "disk", "--root-partition", b.root}, b.signing...),
		"qcow2": {"--format", "disk", "--disk-type", "qcow2", "--boot-loader", b.firmware.Loader},
		"iso":   {"--format", "iso"},
	}
}

// command returns a build of output. Its shell sets what is not part of the environment first.
func (b formatBuilder) command(t *testing.T, prepare, output string, flags []string, env ...string) *exec.Cmd {
	t.Helper()
	args := append([]string{"build", "--force", "--mode", "custom", "--modules", "virtio_blk", "--modules-dir", b.k.ModulesDir,
		"--kernel", b.k.Vmlinuz, "--stub", b.firmware.Stub, "--cmdline", "quiet"}, flags...)
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-c", prepare + ` && exec "$0" "$@"`, b.hapax}, append(args, output)...)...)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// TestFormatsAreReproducible builds every format, and an initramfs in every compression, twice: under circumstances that must not
// matter, by another user, of inputs in other folders.
func TestFormatsAreReproducible(t *testing.T) {
	need.Root(t)
	b := newFormatBuilder(t)
	const nobody = 65534
	moved := b
	moved.root = filepath.Join(t.TempDir(), "root") // with other times and another owner
	tool(t, "cp", "-r", b.root, moved.root)
	tool(t, "chown", "-R", fmt.Sprint(nobody), moved.root)
	moved.k.ModulesDir = filepath.Join(t.TempDir(), b.k.Release)
	if err := os.Symlink(b.k.ModulesDir, moved.k.ModulesDir); err != nil {
		t.Fatal(err)
	}
	first := map[string][]byte{}
	for i, run := range []struct {
		builder formatBuilder
		prepare string
		env     []string
		user    *syscall.SysProcAttr
	}{
		{b, "umask 022", []string{"TZ=UTC", "LC_ALL=C", "GOMAXPROCS=1", "HOME=/root"}, nil},
		// He may read and write where root may, so that only the user is another.
		{moved, "umask 077", []string{"TZ=Pacific/Kiritimati", "LC_ALL=tr_TR.UTF-8", "GOMAXPROCS=7", "HOME=/nonexistent"}, &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: []uintptr{unix.CAP_DAC_OVERRIDE},
		}},
	} {
		formats := run.builder.formats()
		for _, c := range archive.Compressions() {
			if c == archive.XZ && !need.Full() {
				continue // it takes as long as all the others
			}
			formats["initramfs-"+string(c)] = []string{"--stub=", "--compression", string(c)}
		}
		// All formats once and then all again, so that seconds lie between two of a kind.
		for name, flags := range formats {
			output := filepath.Join(t.TempDir(), strings.Repeat("folder", i+1)+name)
			// The shell changes the folder: before it runs, what he may does not count yet.
			cmd := run.builder.command(t, run.prepare+" && cd "+filepath.Dir(output), output, flags, run.env...)
			cmd.SysProcAttr = run.user
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, out)
			}
			image, err := os.ReadFile(output)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first[name] = image
			} else if !bytes.Equal(image, first[name]) {
				t.Errorf("%s: two builds differ", name)
			}
		}
	}
}

// What hapax lists and unpacks of a disk or a CD, raw or packed, with an EFI program or with an entry for a boot loader, is what it
// lists and unpacks of the initramfs alone.
func TestFormatsInspected(t *testing.T) {
	b := newFormatBuilder(t)
	dir := t.TempDir()
	build := func(name string, flags []string) string {
		output := filepath.Join(dir, name)
		if out, err := b.command(t, "true", output, flags).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return output
	}
	hapax := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), b.hapax, args...).CombinedOutput()
		if err != nil {
			t.Errorf("hapax %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	plain := exec.CommandContext(t.Context(), b.hapax, "build", "--mode", "custom", "--modules", "virtio_blk", "--modules-dir", b.k.ModulesDir,
		filepath.Join(dir, "initramfs"))
	if out, err := plain.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := hapax("ls", "-l", filepath.Join(dir, "initramfs"))
	hapax("unpack", filepath.Join(dir, "initramfs"), filepath.Join(dir, "plain"))
	formats := b.formats()
	formats["bls"] = []string{"--format", "disk", "--boot-loader", b.firmware.Loader, "--layout", "bls", "--stub="}
	formats["4096"] = append([]string{"--sector-size", "4096"}, formats["disk"]...)
	for name, flags := range formats {
		file := build(name, flags)
		if got := hapax("ls", "-l", file); got != want {
			t.Errorf("hapax ls -l of %s:\n%swant:\n%s", name, got, want)
		}
		unpacked := filepath.Join(dir, name+".d")
		hapax("unpack", file, unpacked)
		if out, err := exec.CommandContext(t.Context(), "diff", "-r", filepath.Join(dir, "plain"), unpacked).CombinedOutput(); err != nil {
			t.Errorf("%s is not unpacked as its initramfs: %v\n%s", name, err, out)
		}
		if got := hapax("check", "--modules-dir", b.k.ModulesDir, file); !strings.Contains(got, "by hapax") || !strings.Contains(got, "0 errors") {
			t.Errorf("hapax check of %s: %s", name, got)
		}
		if got := hapax("cat", file, "etc/initrd-release"); !strings.Contains(got, "ID=hapax") {
			t.Errorf("hapax cat of %s: %q", name, got)
		}
	}
}

// checkOnly makes sure that a folder holds one file, with one of the contents, and nothing beside it but what a build that was
// killed may leave.
func checkOnly(t *testing.T, file string, litter bool, contents ...[]byte) {
	t.Helper()
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	whole := false
	for _, want := range contents {
		whole = whole || bytes.Equal(got, want)
	}
	if !whole {
		t.Errorf("%s is neither the old image nor the new one: %d bytes", filepath.Base(file), len(got))
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(file) && !(litter && strings.HasSuffix(e.Name(), ".tmp")) {
			t.Errorf("%s is left beside the image", e.Name())
		}
	}
}

// TestFormatKilled kills builds at random moments: the image is the old one or the new one.
func TestFormatKilled(t *testing.T) {
	rounds := 12
	if need.Full() {
		rounds = 200
	}
	b := newFormatBuilder(t)
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for name, flags := range b.formats() {
		if name == "qcow2" && rounds < 200 {
			continue
		}
		output := filepath.Join(t.TempDir(), name)
		began := time.Now()
		if out, err := b.command(t, "true", output, flags).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		takes := time.Since(began)
		complete, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		for range rounds / 3 {
			old := fmt.Appendf(nil, "the old image %d", r.Uint64())
			if err := os.WriteFile(output, old, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := b.command(t, "true", output, flags)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(r.Int64N(int64(takes))))
			_ = cmd.Process.Kill() // it may have ended
			_ = cmd.Wait()
			checkOnly(t, output, true, old, complete)
		}
	}
}

// TestFormatDiskFull builds where there is no room for the image.
func TestFormatDiskFull(t *testing.T) {
	need.Root(t)
	b := newFormatBuilder(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=9m"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	for name, flags := range b.formats() {
		output := filepath.Join(dir, "image")
		if err := os.WriteFile(output, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := b.command(t, "true", output, flags).CombinedOutput()
		if err == nil || !strings.Contains(string(out), syscall.ENOSPC.Error()) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		checkOnly(t, output, false, []byte("old"))
	}
}

// An image with a file that only its owner may read is as private as that.
func TestFormatPermissions(t *testing.T) {
	b := newFormatBuilder(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		flags []string
		want  fs.FileMode
	}{{nil, 0o644}, {[]string{"--include", secret + ":/etc/secret"}, 0o600}} {
		output := filepath.Join(t.TempDir(), "image")
		cmd := b.command(t, "umask 022", output, append([]string{"--format", "uki"}, tt.flags...))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if info, err := os.Stat(output); err != nil || info.Mode() != tt.want {
			t.Errorf("with %q: %v, %v; want %v", tt.flags, info.Mode(), err, tt.want)
		}
	}
}
