package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"hapax/image/medium"
	"hapax/image/qemu"
)

// A bootKind is what an image is to a machine.
type bootKind int

const (
	bootInitramfs bootKind = iota
	bootProgram            // an EFI program, such as a unified kernel image
	bootDisk
	bootQCOW2
	bootCD
)

// kindOf recognises an image by what is in it. Whatever is none of the others is taken for an initramfs, which may begin with
// any bytes.
func kindOf(file string) (bootKind, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	has := func(at int64, magic string) bool {
		b := make([]byte, len(magic))
		_, err := f.ReadAt(b, at)
		return (err == nil || errors.Is(err, io.EOF)) && bytes.Equal(b, []byte(magic))
	}
	switch {
	case has(0, "MZ"):
		return bootProgram, nil
	case has(0, "QFI\xfb"):
		return bootQCOW2, nil
	case has(16*2048+1, "CD001"): // before disks, for a CD may be one as well
		return bootCD, nil
	case has(512, "EFI PART"), has(4096, "EFI PART"):
		return bootDisk, nil
	}
	return bootInitramfs, nil
}

// attach gives a machine the image. What the guest writes to it is lost when it ends: a disk that was built stays as it is.
func (k bootKind) attach(m *qemu.Machine, image string) error {
	switch k {
	case bootInitramfs:
		m.Initrd = image
		return nil
	case bootProgram:
		m.Kernel = image
		return nil
	}
	type blockFile struct {
		Driver   string `json:"driver"`
		Filename string `json:"filename"`
	}
	drive := struct {
		Driver string    `json:"driver"`
		File   blockFile `json:"file"`
	}{"raw", blockFile{"file", image}}
	if k == bootQCOW2 {
		drive.Driver = "qcow2"
	}
	name, err := json.Marshal(drive)
	if err != nil {
		return fmt.Errorf("%s: %w", image, err)
	}
	options, device := ",snapshot=on", "virtio-blk-pci"
	switch {
	case k == bootCD:
		options, device = ",media=cdrom,readonly=on", "ide-cd"
	case medium.Sector(image) == 4096:
		device += ",logical_block_size=4096,physical_block_size=4096"
	}
	// Of a file whose name begins so QEMU reads how to open it, whatever characters the real name has.
	m.Extra = append(m.Extra, "-drive", "if=none,id=image,file=json:"+strings.ReplaceAll(string(name), ",", ",,")+options,
		"-device", device+",drive=image,bootindex=0")
	return nil
}

// firmwares returns where distributions keep UEFI firmware for x86-64 machines without Secure Boot, and its variables.
func firmwares() [][2]string {
	return [][2]string{
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"}, // Debian, Ubuntu
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
		{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},       // Fedora
		{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},   // Arch
		{"/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"}, // SUSE
	}
}

// findFirmware returns the firmware and the file with its variables.
func findFirmware(code, variables string) (string, string, error) {
	if code == "" {
		for _, pair := range firmwares() {
			if readable(pair[0]) && readable(pair[1]) {
				if variables == "" {
					variables = pair[1]
				}
				return pair[0], variables, nil
			}
		}
		return "", "", errors.New("no UEFI firmware found: install ovmf, or name it with --firmware")
	}
	if variables == "" {
		dir, name := filepath.Split(code)
		name = strings.NewReplacer("CODE", "VARS", "code", "vars").Replace(name)
		for _, guess := range []string{name, strings.Replace(name, ".secboot", "", 1)} {
			if file := filepath.Join(dir, guess); guess != filepath.Base(code) && readable(file) {
				return code, file, nil
			}
		}
		return "", "", fmt.Errorf("no file with variables beside %s: name it with --firmware-variables", code)
	}
	return code, variables, nil
}
