package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hapax/image/qemu"
)

// guestFiles makes files that stand for a kernel, an image and a disk.
func guestFiles(t *testing.T) (kernel, image, disk string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"vm linuz", "image", "disk"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "vm linuz"), filepath.Join(dir, "image"), filepath.Join(dir, "disk")
}

func TestRunDry(t *testing.T) {
	t.Parallel()
	kernel, image, disk := guestFiles(t)
	code, stdout, stderr := hapax(t, "run", "--dry-run", "--accel", "tcg", "--kernel", kernel, "--append", "root=/dev/vda it's",
		"--smp", "3", "--memory", "2G", "--disk", disk, image)
	if code != exitDone || stderr != "" {
		t.Fatalf("hapax run --dry-run = %d, %q", code, stderr)
	}
	for _, want := range []string{
		"qemu-system-x86_64 ", " -smp 3 ", " -m 2048M ", " -kernel '" + kernel + "' ", " -initrd " + image + " ",
		`'console=ttyS0 root=/dev/vda it'\''s'`, `"filename":"` + disk + `"`,
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the command lacks %s:\n%s", want, stdout)
		}
	}
}

// fakeQEMU puts a shell script in the place of QEMU.
func fakeQEMU(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, qemu.Binary), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
}

func TestRunExitCode(t *testing.T) {
	kernel, image, _ := guestFiles(t)
	for _, tt := range []struct {
		script string
		args   []string
		code   int
		want   string
	}{
		{"exit 0", nil, 0, ""},
		{"exit 3", nil, 3, ""},
		{"kill -9 $$", nil, exitFailed, "hapax: qemu-system-x86_64: signal: killed\n"},
		{"exec sleep 600", []string{"--timeout", "50ms"}, exitFailed, "hapax: the guest was still running after 50ms: killed\n"},
	} {
		fakeQEMU(t, tt.script)
		args := append([]string{"run", "--accel", "tcg", "--kernel", kernel, image}, tt.args...)
		if code, _, stderr := hapax(t, args...); code != tt.code || stderr != tt.want {
			t.Errorf("with QEMU as %q: hapax run = %d, %q; want %d, %q", tt.script, code, stderr, tt.code, tt.want)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if code, _, stderr := hapax(t, "run", "--accel", "tcg", "--kernel", kernel, image); code != exitFailed || !strings.Contains(stderr, "install QEMU") {
		t.Errorf("without QEMU: hapax run = %d, %q", code, stderr)
	}
}

func TestDefaultKernelAndImage(t *testing.T) {
	kernel, image, _ := guestFiles(t)
	t.Chdir(t.TempDir())
	if err := os.Mkdir("build", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(image, clonedImage); err != nil {
		t.Fatal(err)
	}
	t.Setenv(kernelVariable, kernel)
	code, stdout, stderr := hapax(t, "run", "--dry-run", "--accel", "tcg")
	if code != exitDone || !strings.Contains(stdout, "-kernel '"+kernel+"' -initrd build/universal.img ") {
		t.Errorf("hapax run in a clone = %d, %q, %q", code, stdout, stderr)
	}
	t.Setenv(kernelVariable, "/nonexistent/vmlinuz")
	if code, _, stderr := hapax(t, "run", "--dry-run", "--accel", "tcg"); code != exitFailed || !strings.Contains(stderr, "/nonexistent/vmlinuz") {
		t.Errorf("hapax run with a wrong %s = %d, %q", kernelVariable, code, stderr)
	}
}

// A shell is the oracle for what it reads.
func TestQuote(t *testing.T) {
	t.Parallel()
	args := []string{"plain", "", "two words", "it's", "$HOME `x` \\ \" * ? ~ & ; | < > ( ) #", "tab\tand\nnewline", "ü", "-x=a,b:c/d"}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", `printf '%s\0' `+quote(args)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(out), strings.Join(args, "\x00")+"\x00"; got != want {
		t.Errorf("the shell reads %q, want %q", got, want)
	}
}

func TestParseMemory(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"512": 512, "512M": 512, "2G": 2048, "1g": 1024} {
		if got, err := parseMemory(text); got != want || err != nil {
			t.Errorf("parseMemory(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "G", "-1", "0", "1T", "1.5G", "99999999999999999999"} {
		if got, err := parseMemory(text); err == nil {
			t.Errorf("parseMemory(%q) = %d, want an error", text, got)
		}
	}
}
