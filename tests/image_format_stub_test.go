package tests

import (
	"debug/pe"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hapax/tests/internal/guest"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// earlyMicrocode stands for Intel's microcode. The kernel does not give it to the emulated processor, and unpacks it as it unpacks
// everything that it was given in front of the initramfs.
const earlyMicrocode = "microcode of no processor\n"

// microcodeFolder returns a folder for --microcode.
func microcodeFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "intel-ucode"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "intel-ucode/06-01-01"), []byte(earlyMicrocode), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// checkMicrocode makes sure that the kernel was given the early archive as well as the initramfs.
func checkMicrocode(t *testing.T, c guest.Client) {
	t.Helper()
	if got := ask[string](t, c, guest.Cat, "/kernel/x86/microcode/GenuineIntel.bin"); got != earlyMicrocode {
		t.Errorf("the guest has %q as microcode", got)
	}
}

// sectionCount returns how often a PE file has a section.
func sectionCount(t *testing.T, file, name string) int {
	t.Helper()
	f, err := pe.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	count := 0
	for _, s := range f.Sections {
		if s.Name == name {
			count++
		}
	}
	return count
}

// TestFormatProfiles starts one unified kernel image with a section of microcode and two profiles, by firmware and by systemd-boot.
// The stub of the other tests is systemd 252's, which ignores the one and mixes up the others, so this one is of Debian's next release.
func TestFormatProfiles(t *testing.T) {
	need.Time(t)
	need.Root(t)
	need.Tools(t, "mmdebstrap")
	l, k := needFirst(t)
	f := openFirmware(t, l)
	newer, err := l.NewerStub(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.Stub, f.Loader = newer.Stub, newer.Loader
	flags := []string{
		"--microcode", microcodeFolder(t),
		"--boot-profile", "main:Main=", "--boot-profile", "other:The other one=" + formatArgs + " profiletest=other",
	}
	uki := formatImage(t, l, k, f, "uki", flags...)
	if n, m := sectionCount(t, uki, ".ucode"), sectionCount(t, uki, ".profile"); n != 1 || m != 2 {
		t.Fatalf("the image has %d sections .ucode and %d .profile", n, m)
	}
	for _, tt := range []struct {
		name, args string
		other      bool
	}{{"none chosen", "", false}, {"first", "@0", false}, {"second", "@1", true}, {"loader", "", false}} {
		t.Run(tt.name, func(t *testing.T) {
			m := f.machine(t, false)
			if tt.name == "loader" {
				m.Disks = []string{formatImage(t, l, k, f, "disk", append(flags, "--boot-loader", f.Loader)...)}
			} else {
				m.Kernel, m.Append = uki, tt.args
			}
			c := client(t, vm.Run(t, l.Logs(), vm.Config{Machine: m}), time.Minute)
			checkCmdline(t, c)
			if cmdline := ask[string](t, c, guest.Cat, "/proc/cmdline"); strings.Contains(cmdline, "profiletest=other") != tt.other {
				t.Errorf("the profile is not the one that was chosen: %s", cmdline)
			}
			checkMicrocode(t, c)
		})
	}
}
