package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hapax/image/disk/fat"
	"hapax/image/sparse"
	"hapax/tests/need"
)

func section(content string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(content), 0, int64(len(content)))
}

func sample(t *testing.T, sector int) Spec {
	t.Helper()
	root, err := NewRoot(section("hsqs" + strings.Repeat("root file system ", 100_000)))
	if err != nil {
		t.Fatal(err)
	}
	return Spec{
		SectorSize: sector, Root: root,
		ESP: []fat.File{{Name: "EFI/BOOT/BOOTX64.EFI", Content: section(strings.Repeat("MZ efi", 70_000))}},
	}
}

func write(t *testing.T, m *sparse.Image, how func(*sparse.Image, context.Context, sparse.File) error) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(how(m, t.Context(), f), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	need.Tools(t, name)
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// sgdisk finds nothing wrong, and fsck.vfat and mtools find the file in the first partition.
func TestOracles(t *testing.T) {
	t.Parallel()
	m, err := New(sample(t, 512), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	image := write(t, m, (*sparse.Image).WriteRaw)
	if out := run(t, "sgdisk", "-v", image); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v: %s", out)
	}
	out := run(t, "sgdisk", "-p", "-i", "1", "-i", "2", image)
	for _, want := range []string{
		"C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "'EFI system partition'", "'root'",
		"Attribute flags: 1000000000000000", strings.ToUpper(sample(t, 512).Root.GUID.String()),
	} {
		if !strings.Contains(out, want) {
			t.Errorf("sgdisk -i does not show %s:\n%s", want, out)
		}
	}
	esp := filepath.Join(t.TempDir(), "esp.img")
	whole, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(esp, whole[1<<20:(1+33)<<20], 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "fsck.vfat", "-n", esp)
	if out := run(t, "mtype", "-i", image+"@@1M", "::EFI/BOOT/BOOTX64.EFI"); out != strings.Repeat("MZ efi", 70_000) {
		t.Errorf("mtype gives %d bytes", len(out))
	}
	if !bytes.HasPrefix(whole[(1+33)<<20:], []byte("hsqsroot file")) {
		t.Error("the second partition does not hold the root file system")
	}
}

// A loop device with sectors of 4096 bytes shows the disk as such a drive would.
func TestLargeSectors(t *testing.T) {
	t.Parallel()
	need.Root(t)
	m, err := New(sample(t, 4096), "arm64")
	if err != nil {
		t.Fatal(err)
	}
	image := write(t, m, (*sparse.Image).WriteRaw)
	out, err := exec.CommandContext(t.Context(), "losetup", "--show", "-f", "-r", "-b", "4096", image).CombinedOutput()
	if err != nil {
		need.Unmet(t, "needs loop devices: losetup: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	defer func() {
		if out, err := exec.Command("losetup", "-d", device).CombinedOutput(); err != nil {
			t.Errorf("losetup -d: %v: %s", err, out)
		}
	}()
	if out := run(t, "sgdisk", "-v", device); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v: %s", out)
	}
	if out := run(t, "sgdisk", "-i", "2", device); !strings.Contains(out, "B921B045-1DF0-41C3-AF44-4C6F280D3FAE") {
		t.Errorf("sgdisk -i 2: %s", out)
	}
}

// When the first table is damaged, the second one serves.
func TestBackup(t *testing.T) {
	t.Parallel()
	m, err := New(sample(t, 512), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	image := write(t, m, (*sparse.Image).WriteRaw)
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 1024), 512); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if out := run(t, "sfdisk", "--dump", image); !strings.Contains(out, `name="root"`) {
		t.Errorf("sfdisk --dump: %s", out)
	}
}

func TestQCOW2(t *testing.T) {
	t.Parallel()
	need.Tools(t, "qemu-img")
	m, err := New(sample(t, 512), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	raw, qcow2 := write(t, m, (*sparse.Image).WriteRaw), write(t, m, (*sparse.Image).WriteQCOW2)
	run(t, "qemu-img", "check", qcow2)
	if out := run(t, "qemu-img", "compare", raw, qcow2); !strings.Contains(out, "identical") {
		t.Error(out)
	}
}

func TestGUIDs(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for _, purpose := range []string{"disk", "esp"} {
		for i := range 50 {
			g := deriveGUID(purpose, []byte{byte(i)}).String()
			if seen[g] || !form.MatchString(g) {
				t.Errorf("%s %d: %s", purpose, i, g)
			}
			seen[g] = true
		}
	}
	if kind(typeESP).String() != "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" {
		t.Errorf("ESP: %s", kind(typeESP))
	}
}

// Another content gives other numbers, the same content the same ones.
func TestReproducible(t *testing.T) {
	t.Parallel()
	sums := map[[32]byte]int{}
	for i, change := range []func(*Spec){
		func(*Spec) {}, func(*Spec) {},
		func(s *Spec) { s.ESP[0].Content = section("other") },
		func(s *Spec) { s.Root, _ = NewRoot(section("other")) },
		func(s *Spec) { s.Root = nil },
	} {
		spec := sample(t, 512)
		change(&spec)
		m, err := New(spec, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		sum, err := m.Sum()
		if err != nil {
			t.Fatal(err)
		}
		if first, ok := sums[sum]; ok != (i == 1) {
			t.Errorf("disk %d: equal to %d: %v", i, first, ok)
		}
		sums[sum] = i
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Spec){
		"520":           func(s *Spec) { s.SectorSize = 520 },
		"without files": func(s *Spec) { s.ESP = nil },
		"too few":       func(s *Spec) { s.ESPSize = 1 << 20 },
	} {
		spec := sample(t, 512)
		change(&spec)
		if _, err := New(spec, "amd64"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, want %q", err, want)
		}
	}
	if _, err := New(sample(t, 512), "riscv64"); err == nil {
		t.Error("New for an architecture without a kind of root: no error")
	}
	if _, err := NewRoot(section("")); err == nil {
		t.Error("NewRoot with nothing: no error")
	}
	for _, p := range [][]Partition{
		{{First: 33, Last: 40}}, {{First: 40, Last: 1 << 20}}, {{First: 50, Last: 49}}, make([]Partition, 129),
		{{First: 40, Last: 50, Name: fmt.Sprintf("%037d", 0)}},
	} {
		if err := WriteGPT(sparse.New(1<<20), 512, p); err == nil {
			t.Errorf("WriteGPT with %+v: no error", p[0])
		}
	}
}
