package tests

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hapax/tests/need"
)

// TestForeignArch builds images for arm64 on whatever this machine is, and boots them: an initramfs beside its kernel, and a unified
// kernel image by UEFI firmware.
func TestForeignArch(t *testing.T) {
	need.Time(t)
	need.Root(t)
	need.Tools(t, "qemu-system-aarch64", "depmod")
	l, err := openLab()
	if err != nil {
		t.Fatal(err)
	}
	hapax, err := l.Hapax(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root := arm64Root(t, "linux-image-6.12-cloud-arm64", "qemu-efi-aarch64", "systemd-boot-efi")
	kernels, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		t.Fatalf("kernels %q, %v", kernels, err)
	}
	release := strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	dir := t.TempDir()
	run := func(env []string, name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Env = l.Root, append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run(nil, "depmod", "-b", root, release)
	init := filepath.Join(dir, "init")
	run([]string{"GOARCH=arm64", "CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags=-s -w -E hapax_start", "-o", init, "./init")
	const cmdline = "console=ttyAMA0 panic=-1 hapax.report=console"
	build := func(output string, flags ...string) string {
		t.Helper()
		file := filepath.Join(dir, output)
		args := append([]string{"build", "--arch", "arm64", "--init", init, "--modules-dir", filepath.Join(root, "lib/modules", release)}, flags...)
		run(nil, hapax, append(args, file)...)
		return file
	}
	uki := build("uki", "--format", "uki", "--kernel", kernels[0], "--cmdline", cmdline,
		"--stub", filepath.Join(root, "usr/lib/systemd/boot/efi/linuxaa64.efi.stub"))
	firmware := filepath.Join(root, "usr/share/AAVMF/AAVMF_CODE.fd")
	variables := filepath.Join(dir, "vars")
	run(nil, "cp", filepath.Join(root, "usr/share/AAVMF/AAVMF_VARS.fd"), variables)
	for name, args := range map[string][]string{
		"initramfs": {"-kernel", kernels[0], "-initrd", build("initramfs"), "-append", cmdline},
		"uki": {"-kernel", uki, "-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + firmware,
			"-drive", "if=pflash,unit=1,format=raw,file=" + variables},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "qemu-system-aarch64", append([]string{
				"-M", "virt", "-cpu", "max", "-m", "1024", "-display", "none", "-serial", "stdio", "-nodefaults", "-no-reboot",
			}, args...)...)
			console, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var seen []string
			for lines := bufio.NewScanner(console); lines.Scan(); {
				seen = append(seen, lines.Text())
				if strings.Contains(lines.Text(), "hapax-report: {") {
					break
				}
			}
			cancel()
			_ = cmd.Wait() // it was killed
			if n := len(seen); n == 0 || !strings.Contains(seen[n-1], `"failed":0,"duplicates":0`) || strings.Contains(seen[n-1], `"live":0`) {
				t.Errorf("no report at the end, or not a clean one:\n%s", strings.Join(seen[max(0, n-30):], "\n"))
			}
		})
	}
}
