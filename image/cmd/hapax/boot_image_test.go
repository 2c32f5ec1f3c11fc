package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// imageFile makes a file with bytes at an offset, and zeros before.
func imageFile(t *testing.T, name string, at int, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, append(make([]byte, at), content...), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	cd := imageFile(t, "cd", 512, "EFI PART"+strings.Repeat("\x00", 32769-520)+"CD001")
	for file, want := range map[string]bootKind{
		imageFile(t, "uki", 0, "MZ"):            bootProgram,
		imageFile(t, "disk", 512, "EFI PART"):   bootDisk,
		imageFile(t, "disk4", 4096, "EFI PART"): bootDisk,
		imageFile(t, "qcow2", 0, "QFI\xfb"):     bootQCOW2,
		imageFile(t, "iso", 32769, "CD001"):     bootCD,
		cd:                                      bootCD,
		imageFile(t, "cpio", 0, "070701"):       bootInitramfs,
		imageFile(t, "short", 0, "M"):           bootInitramfs,
		imageFile(t, "empty", 0, ""):            bootInitramfs,
	} {
		if got, err := kindOf(file); got != want || err != nil {
			t.Errorf("kindOf(%s) = %v, %v; want %v", filepath.Base(file), got, err, want)
		}
	}
	if _, err := kindOf("/nonexistent"); err == nil {
		t.Error("kindOf a file that is not there: no error")
	}
}

// firmwareFiles makes files that stand for a firmware and its variables.
func firmwareFiles(t *testing.T) (code, variables string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.fd", "LONELY_CODE.fd", "plain.fd"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "OVMF_CODE_4M.secboot.fd"), filepath.Join(dir, "OVMF_VARS_4M.fd")
}

func TestRunFormats(t *testing.T) {
	t.Parallel()
	code, variables := firmwareFiles(t)
	kernel, initramfs, _ := guestFiles(t)
	uki, disk := imageFile(t, "uki", 0, "MZ"), imageFile(t, "a,disk", 512, "EFI PART")
	sectors4K := imageFile(t, "sectors4K", 4096, "EFI PART")
	qcow2, iso := imageFile(t, "qcow2", 0, "QFI\xfb"), imageFile(t, "iso", 32769, "CD001")
	pflash := "if=pflash,unit=0,format=raw,readonly=on,file=" + code
	for _, tt := range []struct {
		name  string
		args  []string
		code  int
		wants []string
		never string
	}{
		{"uki", []string{"--append", "word", uki}, exitDone, []string{pflash, "file=" + variables, " -snapshot", " -kernel " + uki, " -append word "}, "-initrd"},
		{"disk", []string{disk}, exitDone, []string{pflash, `"driver":"raw",,"file":{"driver":"file",,"filename":"` + strings.ReplaceAll(disk, ",", ",,") + `"}},snapshot=on`, "virtio-blk-pci,drive=image,bootindex=0"}, "-kernel"},
		{"sectors of 4 KiB", []string{sectors4K}, exitDone, []string{"virtio-blk-pci,logical_block_size=4096,physical_block_size=4096,drive=image"}, "-kernel"},
		{"qcow2", []string{qcow2}, exitDone, []string{`"driver":"qcow2"`}, "-append"},
		{"iso", []string{iso}, exitDone, []string{"media=cdrom", "ide-cd,drive=image"}, "virtio-blk"},
		{"initramfs", []string{"--kernel", kernel, initramfs}, exitDone, []string{pflash, "-initrd", "console=ttyS0"}, "drive=image"},
		{"kernel", []string{"--kernel", kernel, uki}, exitFailed, []string{"has a kernel inside"}, ""},
		{"append", []string{"--append", "word", iso}, exitFailed, []string{"has its command line inside"}, ""},
	} {
		args := append([]string{"run", "--dry-run", "--accel", "tcg", "--firmware", code}, tt.args...)
		exit, stdout, stderr := hapax(t, args...)
		if exit != tt.code {
			t.Errorf("%s: hapax run = %d, %q", tt.name, exit, stderr)
		}
		for _, want := range tt.wants {
			if !strings.Contains(stdout+stderr, want) {
				t.Errorf("%s: there is no %s in %s%s", tt.name, want, stdout, stderr)
			}
		}
		if tt.never != "" && strings.Contains(stdout, tt.never) {
			t.Errorf("%s: there is %s in %s", tt.name, tt.never, stdout)
		}
	}
}

func TestFindFirmware(t *testing.T) {
	t.Parallel()
	code, variables := firmwareFiles(t)
	dir := filepath.Dir(code)
	if _, got, err := findFirmware(code, ""); got != variables || err != nil {
		t.Errorf("the variables of %s: %s, %v", code, got, err)
	}
	if _, got, err := findFirmware(code, "/other"); got != "/other" || err != nil {
		t.Errorf("variables that are named: %s, %v", got, err)
	}
	for _, lonely := range []string{"LONELY_CODE.fd", "plain.fd"} {
		if _, _, err := findFirmware(filepath.Join(dir, lonely), ""); err == nil || !strings.Contains(err.Error(), "--firmware-variables") {
			t.Errorf("%s: %v", lonely, err)
		}
	}
	kernel, initramfs, _ := guestFiles(t)
	exit, _, stderr := hapax(t, "run", "--dry-run", "--kernel", kernel, "--firmware-variables", variables, initramfs)
	if exit != exitFailed || !strings.Contains(stderr, "--firmware") {
		t.Errorf("variables without firmware: %d, %q", exit, stderr)
	}
}
