package tests

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hapax/image"
	"hapax/image/archive"
	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// formatArgs is the command line inside of images that firmware starts; a test recognises its image by the last word.
const formatArgs = bootArgs + "hapax.report=console formattest=AAAA"

// formatFirmware is what images of other formats than initramfs are started and made with.
type formatFirmware struct {
	lab.EFI
	// A machine whose owner is Debian's ovmf: firmware that enforces Secure Boot, variables that trust a key, and that key.
	secureCode, secureVars, key, certificate string
}

func openFirmware(t *testing.T, l *lab.Lab) formatFirmware {
	t.Helper()
	efi, err := l.EFI(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ovmf := filepath.Dir(efi.Code)
	snakeoil := filepath.Join(filepath.Dir(ovmf), "ovmf/PkKek-1-snakeoil")
	return formatFirmware{
		EFI:        efi,
		secureCode: filepath.Join(ovmf, "OVMF_CODE_4M.secboot.fd"), secureVars: filepath.Join(ovmf, "OVMF_VARS_4M.snakeoil.fd"),
		key: snakeoil + ".key", certificate: snakeoil + ".pem",
	}
}

// signing returns the flags that sign with the key that the secure machine trusts. The package has it encrypted, with its
// name as the passphrase.
func (f formatFirmware) signing(t *testing.T) []string {
	t.Helper()
	openssl, err := debian.Tool("openssl")
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	cmd := exec.CommandContext(t.Context(), openssl, "rsa", "-in", f.key, "-passin", "pass:snakeoil", "-out", key)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	return []string{"--sign-key", key, "--sign-cert", f.certificate}
}

// machine returns a machine with the firmware and variables of its own.
func (f formatFirmware) machine(t *testing.T, secure bool) qemu.Machine {
	t.Helper()
	code, vars := f.Code, f.Vars
	if secure {
		code, vars = f.secureCode, f.secureVars
	}
	return withFirmware(t, qemu.Machine{CPUs: 1}, code, vars)
}

// formatImage builds an image that firmware starts and whose shell is the guest program.
func formatImage(t *testing.T, l *lab.Lab, k debian.Kernel, f formatFirmware, format string, flags ...string) string {
	t.Helper()
	all := []string{"--format", format, "--mode", "universal", "--kernel", k.Vmlinuz, "--stub", f.Stub, "--cmdline", formatArgs}
	return shellImage(t, l, k, append(all, flags...)...)
}

// formatRoot returns a folder with a root file system whose /sbin/init is the guest program.
func formatRoot(t *testing.T, l *lab.Lab) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"dev", "proc", "sys", "run", "tmp", "sbin"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.InstallGuest(t.Context(), filepath.Join(dir, "sbin/init")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// checkCmdline makes sure that the guest was started with the command line of its image.
func checkCmdline(t *testing.T, c guest.Client, words ...string) {
	t.Helper()
	got := " " + strings.TrimSpace(ask[string](t, c, guest.Cat, "/proc/cmdline")) + " "
	for _, word := range append(words, "formattest=AAAA") {
		if !strings.Contains(got, " "+word) {
			t.Errorf("the command line is%q, want %s", got, word)
		}
	}
}

func cdrom(file string) []string {
	return []string{"-drive", "if=none,id=cd,format=raw,media=cdrom,readonly=on,file=" + file, "-device", "ide-cd,drive=cd"}
}

// TestFormatUKI starts a unified kernel image, with all sections that it may have, as firmware does.
func TestFormatUKI(t *testing.T) {
	l, k := needFirst(t)
	f := openFirmware(t, l)
	m := f.machine(t, false)
	dir := t.TempDir()
	splash, sbat := filepath.Join(dir, "splash.bmp"), filepath.Join(dir, "sbat")
	// A picture of two dots: headers of 14 and 40 bytes, then lines of three bytes for each dot, padded to four.
	bmp := append([]byte("BM\x3e\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x01\x00\x18\x00"), make([]byte, 24+8)...)
	if err := errors.Join(os.WriteFile(splash, bmp, 0o600), os.WriteFile(sbat, []byte("hapax,1,hapax,hapax,1,none\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	m.Kernel = formatImage(t, l, k, f, "uki", "--splash", splash, "--sbat", sbat, "--microcode", microcodeFolder(t))
	c := client(t, vm.Run(t, l.Logs(), vm.Config{Machine: m}), time.Minute)
	checkCmdline(t, c)
	checkMicrocode(t, c) // the stub is older than .ucode, so it lies in front of the initramfs
}

// TestFormatISO starts a CD.
func TestFormatISO(t *testing.T) {
	l, k := needFirst(t)
	f := openFirmware(t, l)
	m := f.machine(t, false)
	m.Extra = cdrom(formatImage(t, l, k, f, "iso"))
	checkCmdline(t, client(t, vm.Run(t, l.Logs(), vm.Config{Machine: m}), time.Minute))
}

// TestFormatSecureDisk starts a disk with a root partition, made of a folder, on a machine that enforces Secure Boot: it starts
// what is signed, and refuses it when one byte has changed.
func TestFormatSecureDisk(t *testing.T) {
	l, k := needFirst(t)
	f := openFirmware(t, l)
	image := formatImage(t, l, k, f, "disk", append(f.signing(t), "--root-partition", formatRoot(t, l))...)
	t.Run("signed", func(t *testing.T) {
		m := f.machine(t, true)
		m.Disks = []string{image}
		v := vm.Run(t, l.Logs(), vm.Config{Machine: m})
		if _, err := v.WaitLine(time.Minute, "UEFI Secure Boot is enabled"); err != nil {
			t.Fatal(err)
		}
		var start guest.Start
		if err := guest.Await(v, time.Minute, "start", &start); err != nil {
			t.Fatal(err)
		}
		c := client(t, v, time.Minute)
		checkCmdline(t, c, "root=PARTUUID=")
		if mounts := ask[string](t, c, guest.Cat, "/proc/mounts"); !strings.Contains(mounts, "/dev/vda2 / erofs ro,") {
			t.Errorf("the root is not the second partition:\n%s", mounts)
		}
	})
	t.Run("tampered", func(t *testing.T) {
		content, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(content, []byte("formattest=AAAA"))
		if at < 0 {
			t.Fatal("the command line is not in the image")
		}
		content[at+len("formattest=")]++
		m := f.machine(t, true)
		m.Disks = []string{filepath.Join(t.TempDir(), "disk.img")}
		if err := os.WriteFile(m.Disks[0], content, 0o600); err != nil {
			t.Fatal(err)
		}
		v := vm.Run(t, l.Logs(), vm.Config{Machine: m})
		if _, err := v.WaitLine(time.Minute, "Access Denied"); err != nil {
			t.Fatal(err)
		}
		for _, line := range v.Lines() {
			if strings.Contains(line.Text, "EFI stub") || strings.Contains(line.Text, "Linux version") {
				t.Errorf("it was started nevertheless: %s", line)
			}
		}
	})
}

// TestFormatSecureLoaders starts disks on which systemd-boot comes first, on a machine that enforces Secure Boot: the loader, what it
// starts, and the kernel of an entry are signed.
func TestFormatSecureLoaders(t *testing.T) {
	need.Time(t)
	l, k := needFirst(t)
	f := openFirmware(t, l)
	for _, layout := range image.Layouts() {
		t.Run(string(layout), func(t *testing.T) {
			flags := append(f.signing(t), "--boot-loader", f.Loader, "--layout", string(layout))
			if layout == image.LayoutBLS {
				flags = append(flags, "--stub=")
			}
			m := f.machine(t, true)
			m.Disks = []string{formatImage(t, l, k, f, "disk", flags...)}
			v := vm.Run(t, l.Logs(), vm.Config{Machine: m})
			if _, err := v.WaitLine(time.Minute, "UEFI Secure Boot is enabled"); err != nil {
				t.Fatal(err)
			}
			checkCmdline(t, client(t, v, time.Minute))
		})
	}
}

// TestFormatMatrix boots one root with every format in every compression: an initramfs beside its kernel, as SeaBIOS has them from
// QEMU, and the others as UEFI firmware starts them.
func TestFormatMatrix(t *testing.T) {
	need.Time(t)
	l := needQEMU(t)
	f := openFirmware(t, l)
	root := rootDisk(t, l, nil).File
	args := formatArgs + " root=UUID=" + rootUUID
	for _, spec := range lab.Kernels() {
		k := kernel(t, l, spec)
		for _, compression := range archive.Compressions() {
			for _, format := range image.Formats() {
				t.Run(fmt.Sprintf("%s/%s/%s", spec.Name, format, compression), func(t *testing.T) {
					flags := []string{"--format", string(format), "--compression", string(compression)}
					m := qemu.Machine{CPUs: 1, Kernel: k.Vmlinuz, Append: args}
					if format != image.Initramfs {
						m = f.machine(t, false)
						flags = append(flags, "--kernel", k.Vmlinuz, "--stub", f.Stub, "--cmdline", args)
					}
					file, err := l.HapaxImage(t.Context(), k, flags...)
					if err != nil {
						t.Fatal(err)
					}
					switch format {
					case image.Initramfs:
						m.Initrd = file
					case image.UKI:
						m.Kernel = file
					case image.Disk:
						m.Disks = []string{file}
					case image.ISO:
						m.Extra = cdrom(file)
					}
					m.Disks = append(m.Disks, root)
					checkRoot(t, vm.Run(t, l.Logs(), vm.Config{Machine: m}))
				})
			}
		}
	}
}

// checkRoot waits for the init of the root that has rootUUID, and makes sure of the command line and of that root.
func checkRoot(t *testing.T, v *vm.VM) {
	t.Helper()
	var start guest.Start
	if err := guest.Await(v, time.Minute, "start", &start); err != nil {
		t.Fatal(err)
	}
	c := client(t, v, time.Minute)
	checkCmdline(t, c, "root=UUID="+rootUUID)
	checkMounts(t, ask[string](t, c, guest.Cat, "/proc/mounts"))
	if r := ask[report](t, c, guest.Report, ""); r.Root == nil || r.Root.UUID != rootUUID {
		t.Errorf("report: root %+v, want %s", r.Root, rootUUID)
	}
}

// TestFormatDisks starts disks with systemd-boot, of other types, and with large sectors.
func TestFormatDisks(t *testing.T) {
	need.Time(t)
	l, k := needFirst(t)
	f := openFirmware(t, l)
	root := []string{"--root-partition", formatRoot(t, l)}
	squashfs := filepath.Join(t.TempDir(), "squashfs.img")
	if out, err := exec.CommandContext(t.Context(), "mksquashfs", root[1], squashfs, "-quiet", "-all-root").CombinedOutput(); err != nil {
		t.Fatalf("mksquashfs: %v\n%s", err, out)
	}
	device := func(driver, file, options string) []string {
		return []string{"-drive", "if=none,id=disk,format=" + driver + ",file=" + file, "-device", "virtio-blk-pci,drive=disk" + options}
	}
	for _, tt := range []struct {
		name            string
		flags           []string
		driver, options string
	}{
		{"qcow2", append(root, "--disk-type", "qcow2"), "qcow2", ""},
		{"4096", append(root, "--sector-size", "4096"), "raw", ",logical_block_size=4096,physical_block_size=4096"},
		{"squashfs", []string{"--root-partition", squashfs}, "raw", ""},
		{"ext4", []string{"--root-partition", rootDisk(t, l, nil).File}, "raw", ""},
		{"loader", append(root, "--boot-loader", f.Loader), "raw", ""},
		{"entries", append(root, "--boot-loader", f.Loader, "--layout", "bls"), "raw", ""},
		{"cd on a stick", []string{"--format", "iso"}, "raw", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			flags := []string{
				"--format", "disk", "--mode", "universal", "--kernel", k.Vmlinuz, "--cmdline", formatArgs,
			}
			if tt.name != "entries" {
				flags = append(flags, "--stub", f.Stub)
			}
			m := f.machine(t, false)
			m.Extra = device(tt.driver, shellImage(t, l, k, append(flags, tt.flags...)...), tt.options)
			checkCmdline(t, client(t, vm.Run(t, l.Logs(), vm.Config{Machine: m}), time.Minute))
		})
	}
}
