package image

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hapax/tests/need"
)

// debianStub is systemd's stub as Debian's package systemd-boot-efi installs it. It stands for a kernel here as well: both are
// EFI programs.
const debianStub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// formatSpec returns testSpec for a format that firmware starts.
func formatSpec(t *testing.T, format Format) Spec {
	t.Helper()
	need.Files(t, debianStub)
	spec := testSpec(t)
	spec.Format, spec.Stub, spec.Kernel, spec.Cmdline = format, debianStub, debianStub, "quiet the-command-line"
	spec.OSRelease = filepath.Join(filepath.Dir(spec.Output), "../os-release")
	writeFile(t, spec.OSRelease, "ID=test\nPRETTY_NAME=\"Test OS\"\n", 0o644)
	return spec
}

// built builds and returns the bytes of the output.
func built(t *testing.T, spec Spec) []byte {
	t.Helper()
	if _, err := Build(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(spec.Output)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// formatCases are all ways in which a format is written.
func formatCases(t *testing.T) map[string]func(*Spec) {
	t.Helper()
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "sbin/init"), "the init of the root", 0o755)
	image := filepath.Join(t.TempDir(), "root.img")
	writeFile(t, image, "hsqs a file system", 0o644)
	return map[string]func(*Spec){
		"uki":      func(*Spec) {},
		"disk":     func(s *Spec) { s.Format = Disk },
		"qcow2":    func(s *Spec) { s.Format, s.DiskType, s.RootPartition = Disk, QCOW2, image },
		"root":     func(s *Spec) { s.Format, s.RootPartition, s.SectorSize = Disk, root, 4096 },
		"loader":   func(s *Spec) { s.Format, s.Loader = Disk, debianStub },
		"entries":  func(s *Spec) { s.Format, s.Loader, s.Layout, s.Stub = Disk, debianStub, LayoutBLS, "" },
		"iso":      func(s *Spec) { s.Format = ISO },
		"iso, bls": func(s *Spec) { s.Format, s.Loader, s.Layout, s.Stub = ISO, debianStub, LayoutBLS, "" },
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	magic := map[string]string{"uki": "MZ", "qcow2": "QFI\xfb"}
	contains := map[string][]string{
		"uki":      {"the-command-line", "Test OS", ".initrd"},
		"disk":     {"EFI PART", "FAT32", "the-command-line"},
		"qcow2":    {"root=PARTUUID=", "hsqs a file system"},
		"root":     {"root=PARTUUID=", "the init of the root"},
		"loader":   {"timeout 0", "the-command-line"},
		"entries":  {"title Test OS\nversion 6.1-test\nlinux /hapax/6.1-test/linux\ninitrd /hapax/6.1-test/initrd\noptions quiet the-command-line\n"},
		"iso":      {"CD001", "EL TORITO", "EFI PART", "the-command-line"},
		"iso, bls": {"CD001", "options quiet the-command-line\n"},
	}
	for name, change := range formatCases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, again := formatSpec(t, UKI), formatSpec(t, UKI)
			change(&spec)
			change(&again)
			image := built(t, spec)
			if !bytes.HasPrefix(image, []byte(magic[name])) {
				t.Errorf("it begins with %q, want %q", image[:4], magic[name])
			}
			for _, want := range append(contains[name], "TRAILER!!!") {
				if !bytes.Contains(image, []byte(want)) {
					t.Errorf("there is no %q in it", want)
				}
			}
			if !bytes.Equal(image, built(t, again)) {
				t.Error("a second build in another folder differs")
			}
			if names := fileNames(t, filepath.Dir(spec.Output)); len(names) != 1 {
				t.Errorf("beside the output there are %q", names)
			}
		})
	}
}

// A disk is as private as the root partition in it.
func TestFormatPrivate(t *testing.T) {
	t.Parallel()
	dir, file, closed := t.TempDir(), filepath.Join(t.TempDir(), "root.img"), t.TempDir()
	writeFile(t, filepath.Join(dir, "shadow"), "secret", 0o600)
	writeFile(t, file, "secret", 0o600)
	writeFile(t, filepath.Join(closed, "root/keys/key"), "secret", 0o644)
	if err := os.Chmod(filepath.Join(closed, "root"), 0o700); err != nil {
		t.Fatal(err)
	}
	spec := testSpec(t)
	spec.Includes = []Include{{Source: filepath.Join(closed, "root"), Target: "/secret"}}
	built(t, spec)
	if info, err := os.Stat(spec.Output); err != nil || info.Mode() != 0o600 {
		t.Errorf("an initramfs with a closed folder: %v, %v", info.Mode(), err)
	}
	for _, root := range []string{dir, file, closed} {
		spec := formatSpec(t, Disk)
		spec.RootPartition = root
		built(t, spec)
		if info, err := os.Stat(spec.Output); err != nil || info.Mode() != 0o600 {
			t.Errorf("with %s: %v, %v", root, info.Mode(), err)
		}
	}
}

// A build that fails says why, and leaves the old image and nothing else.
func TestFormatFails(t *testing.T) {
	t.Parallel()
	garbage := filepath.Join(t.TempDir(), "garbage")
	writeFile(t, garbage, strings.Repeat("MZ garbage ", 1000), 0o644)
	empty := filepath.Join(t.TempDir(), "empty")
	writeFile(t, empty, "", 0o644)
	folder := t.TempDir()
	other := filepath.Join(t.TempDir(), "other")
	bzImage := make([]byte, 0x400)
	copy(bzImage[0x202:], "HdrS")
	copy(bzImage[0x20e:], "\x00\x01")
	copy(bzImage[0x300:], "6.2-other (builder) #1")
	writeFile(t, other, string(bzImage), 0o644)
	for want, change := range map[string]func(*Spec){
		"CONFIG_EFI_STUB":                 func(s *Spec) { s.Kernel = garbage },
		empty + ": it is no PE file":      func(s *Spec) { s.Kernel = empty },
		"stub: it is no PE file":          func(s *Spec) { s.Stub = garbage },
		folder + " is not a regular file": func(s *Spec) { s.Stub = folder },
		"install systemd-boot-efi":        func(s *Spec) { s.Stub = "/nonexistent/stub" },
		"no BMP":                          func(s *Spec) { s.Splash = garbage },
		"/nonexistent/key":                func(s *Spec) { s.SignKey, s.SignCert = "/nonexistent/key", garbage },
		"not in PEM form":                 func(s *Spec) { s.SignKey, s.SignCert = garbage, garbage },
		"line end or a NUL":               func(s *Spec) { s.Cmdline = "a\nb" },
		"profiles need":                   func(s *Spec) { s.BootProfiles = []string{"a=b"} },
		"empty file":                      func(s *Spec) { s.Format, s.RootPartition = Disk, empty },
		"too few":                         func(s *Spec) { s.Format, s.ESPSize = Disk, 5 },
		"sectors of 520":                  func(s *Spec) { s.Format, s.SectorSize = Disk, 520 },
		"boot profile \"x\"":              func(s *Spec) { s.BootProfiles = []string{"x"} },
		"--stub, --splash, --sbat":        func(s *Spec) { s.Format = Initramfs },
		"an initramfs is not signed":      func(s *Spec) { s.Format, s.Stub, s.SignKey, s.SignCert = Initramfs, "", "a", "b" },
		"--boot-loader and --layout":      func(s *Spec) { s.Loader = debianStub },
		"--root-partition, --esp-size":    func(s *Spec) { s.RootPartition = folder },
		"name it with --boot-loader":      func(s *Spec) { s.Format, s.Layout = ISO, LayoutBLS },
		"no use for --stub":               func(s *Spec) { s.Format, s.Layout, s.Loader = ISO, LayoutBLS, debianStub },
		"both --sign-key and --sign-cert": func(s *Spec) { s.SignKey = garbage },
		"--pkcs11-module belong together": func(s *Spec) { s.SignKey, s.SignCert = "pkcs11:object=k", garbage },
		"unknown format \"floppy\"":       func(s *Spec) { s.Format = "floppy" },
		"--esp-size: from 1 to":           func(s *Spec) { s.Format, s.ESPSize = Disk, -1 },
		"--esp-size: from 1 to 2097152":   func(s *Spec) { s.Format, s.ESPSize = Disk, 1<<44 },
		"at most 2047 bytes":              func(s *Spec) { s.Cmdline = strings.Repeat("x", 2048) },
		"no use for --stub, --splash, --sbat and --boot-profile": func(s *Spec) {
			s.Format, s.Layout, s.Loader, s.Stub, s.BootProfiles = ISO, LayoutBLS, debianStub, "", []string{"a=b"}
		},
		"is the kernel 6.2-other": func(s *Spec) { s.Kernel = other },
		"which goes into it":      func(s *Spec) { s.Format, s.RootPartition = Disk, filepath.Dir(s.Output) },
	} {
		spec := formatSpec(t, UKI)
		spec.Force = true
		writeFile(t, spec.Output, "old", 0o644)
		change(&spec)
		if _, err := Build(t.Context(), spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Build = %v, want %q", err, want)
		}
		if old, err := os.ReadFile(spec.Output); err != nil || string(old) != "old" {
			t.Errorf("%s: the old image is %q (%v)", want, old, err)
		}
		if names := fileNames(t, filepath.Dir(spec.Output)); len(names) != 1 {
			t.Errorf("%s: beside the output there are %q", want, names)
		}
	}
}

// The root partition is named on every command line, for one of a boot profile stands in the place of the other.
func TestWithRoot(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{"quiet": "root=PARTUUID=x quiet", "": "root=PARTUUID=x", "a root=/dev/vda": "a root=/dev/vda"} {
		if got := (&assembly{root: "root=PARTUUID=x"}).withRoot(line); got != want {
			t.Errorf("%q becomes %q, want %q", line, got, want)
		}
	}
	if got := new(assembly).withRoot("quiet"); got != "quiet" {
		t.Errorf("without a root partition: %q", got)
	}
}
