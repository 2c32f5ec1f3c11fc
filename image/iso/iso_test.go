package iso

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hapax/image/disk/fat"
	"hapax/tests/need"
)

const program = "MZ the program\n"

func write(t *testing.T, stamp time.Time) string {
	t.Helper()
	content := io.NewSectionReader(strings.NewReader(program), 0, int64(len(program)))
	m, err := New(Spec{ESP: []fat.File{{Name: "EFI/BOOT/BOOTX64.EFI", Content: content}}, Time: stamp})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "cd.iso"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.WriteRaw(t.Context(), f), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// run returns what a program prints, which has to end well.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	need.Tools(t, name)
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func wants(t *testing.T, out string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q in:\n%s", want, out)
		}
	}
}

func TestXorriso(t *testing.T) {
	t.Parallel()
	image := write(t, time.Date(2026, 11, 22, 13, 14, 15, 0, time.UTC))
	out := run(t, "xorriso", "-indev", image, "-pvd_info", "-report_el_torito", "plain", "-report_system_area", "plain", "-find", "/", "-exec", "lsdl")
	wants(t, out,
		"Volume Id    : HAPAX", "Creation Time: 2026112213141500",
		"El Torito boot img :   1  UEFI  y   none", "El Torito img path :   1  /EFI.IMG",
		"GPT", "'/EFI.IMG'", "'/BOOT.CAT'")
	if strings.Contains(out, "WARNING") || strings.Contains(out, "SORRY") {
		t.Error(out)
	}
}

func TestBsdtar(t *testing.T) {
	t.Parallel()
	image, dir := write(t, time.Unix(0, 0)), t.TempDir()
	wants(t, run(t, "bsdtar", "-tvf", image), "EFI.IMG", "BOOT.CAT", "Jan  1  1970")
	run(t, "bsdtar", "-xf", image, "-C", dir)
	if got := run(t, "mtype", "-i", filepath.Join(dir, "EFI.IMG"), "::EFI/BOOT/BOOTX64.EFI"); got != program {
		t.Errorf("mtype: %q", got)
	}
}

// The same image is a disk.
func TestDisk(t *testing.T) {
	t.Parallel()
	image := write(t, time.Unix(0, 0))
	wants(t, run(t, "sgdisk", "-v", "-i", "1", image), "No problems found", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
	if got := run(t, "mtype", "-i", image+"@@1M", "::EFI/BOOT/BOOTX64.EFI"); got != program {
		t.Errorf("mtype: %q", got)
	}
}

func TestReproducible(t *testing.T) {
	t.Parallel()
	first, err := os.ReadFile(write(t, time.Unix(0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(write(t, time.Unix(0, 0).In(time.FixedZone("", 7200))))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("two images of the same files differ")
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	content := io.NewSectionReader(strings.NewReader("x"), 0, 1)
	if _, err := New(Spec{Time: time.Unix(0, 0)}); err == nil {
		t.Error("without files: no error")
	}
	if _, err := New(Spec{ESP: []fat.File{{Name: "a", Content: content}}, Time: time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)}); err == nil {
		t.Error("in the year 3000: no error")
	}
}
