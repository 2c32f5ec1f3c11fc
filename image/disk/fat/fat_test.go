package fat

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hapax/image/sparse"
	"hapax/tests/need"
)

func file(name, content string) File {
	return File{name, io.NewSectionReader(strings.NewReader(content), 0, int64(len(content)))}
}

// samples has short and long names, names that need a number, folders of more than a cluster, and files of all sizes.
func samples() []File {
	files := []File{
		file("EFI/BOOT/BOOTX64.EFI", strings.Repeat("efi", 100_000)),
		file("loader/loader.conf", "timeout 0\n"),
		file("loader/entries/hapax-6.1.0-56-cloud-amd64.conf", "title hapax\n"),
		file("empty", ""),
		file("EFI/a long name with ünicode 🐧 and more.text", "x"),
		file("EFI/A.B.C", "dots"),
		file("UPPER.TXT", strings.Repeat("u", 512)),
		file("LONGFI~1.TXT", "taken"),
	}
	for i := range 60 {
		files = append(files, file(fmt.Sprintf("many/long file number %d.txt", i), strings.Repeat("y", i*37)))
	}
	return append(files, file("longfile.txt", "1"), file("longfilename.txt", "2"), file("longfilenames.txt", "3"))
}

func write(t *testing.T, m *sparse.Image) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "fat.img"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.WriteRaw(t.Context(), f), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// fsck.vfat finds nothing to say, and mtools reads back every file.
func TestOracles(t *testing.T) {
	t.Parallel()
	for _, sector := range []int{512, 1024, 2048, 4096} {
		t.Run(fmt.Sprint(sector), func(t *testing.T) {
			t.Parallel()
			need.Tools(t, "fsck.vfat")
			need.Tools(t, "mcopy")
			m, err := New(Spec{Files: samples(), SectorSize: sector, Label: "HAPAX", Serial: 0x1234abcd, Hidden: 2048})
			if err != nil {
				t.Fatal(err)
			}
			image := write(t, m)
			out, err := exec.CommandContext(t.Context(), "fsck.vfat", "-n", "-v", image).CombinedOutput()
			if err != nil {
				t.Errorf("fsck.vfat: %v\n%s", err, out)
			}
			for _, bad := range []string{"differ", "wrong", "Warning", "not properly", "rphan", "Free cluster summary"} {
				if strings.Contains(string(out), bad) {
					t.Errorf("fsck.vfat says %q:\n%s", bad, out)
				}
			}
			back := t.TempDir()
			copyBack := exec.CommandContext(t.Context(), "mcopy", "-s", "-Q", "-n", "-i", image, "::*", back)
			copyBack.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MTOOLS_SKIP_CHECK=1")
			if out, err := copyBack.CombinedOutput(); err != nil {
				t.Fatalf("mcopy: %v\n%s", err, out)
			}
			for _, f := range samples() {
				want, err := io.ReadAll(f.Content)
				if err != nil {
					t.Fatal(err)
				}
				// mtools has its own idea of characters beyond 16 bits.
				name := strings.ReplaceAll(f.Name, "🐧", "__")
				if got, err := os.ReadFile(filepath.Join(back, name)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: mcopy gives %d bytes, want %d (%v)", f.Name, len(got), len(want), err)
				}
			}
		})
	}
}

func TestLabelSerialAndTime(t *testing.T) {
	t.Parallel()
	need.Tools(t, "mdir")
	m, err := New(Spec{
		Files: samples(), Label: "HAPAX", Serial: 0x1234abcd, Time: time.Date(2026, 11, 22, 13, 14, 16, 0, time.FixedZone("", 3600)),
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "mdir", "-i", write(t, m), "::loader").CombinedOutput()
	if err != nil {
		t.Fatalf("mdir: %v\n%s", err, out)
	}
	for _, want := range []string{"Volume in drive : is HAPAX", "1234-ABCD", "2026-11-22  12:14", "loader.conf"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("mdir does not show %q:\n%s", want, out)
		}
	}
}

// The order of the files makes no difference, nor do the folders that a caller happened to name first.
func TestOrder(t *testing.T) {
	t.Parallel()
	files := samples()
	a, err := New(Spec{Files: files})
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(files) / 2 {
		files[i], files[len(files)-1-i] = files[len(files)-1-i], files[i]
	}
	b, err := New(Spec{Files: files})
	if err != nil {
		t.Fatal(err)
	}
	sumA, errA := a.Sum()
	sumB, errB := b.Sum()
	if errA != nil || errB != nil || sumA != sumB {
		t.Errorf("%x and %x (%v, %v)", sumA, sumB, errA, errB)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	big := File{"big", io.NewSectionReader(zeros{}, 0, 40<<20)}
	for _, tt := range []struct {
		name string
		spec Spec
		want string // of the error, "" for none
		size int64
	}{
		{"smallest", Spec{Files: samples()}, "", 33 << 20},
		{"smallest of 4096", Spec{Files: samples(), SectorSize: 4096}, "", 257 << 20},
		{"as large as needed", Spec{Files: []File{big}}, "", 41 << 20},
		{"with room", Spec{Files: []File{big}, Free: 10 << 20}, "", 51 << 20},
		{"given", Spec{Files: []File{big}, Size: 100 << 20}, "", 100 << 20},
		{"large, so with large clusters", Spec{Files: []File{big}, Size: 100 << 30}, "", 100 << 30},
		{"too small for FAT32", Spec{Files: samples(), Size: 20 << 20}, "too few", 0},
		{"too small for the files", Spec{Files: []File{big}, Size: 36 << 20}, "do not fit", 0},
		{"too large", Spec{Files: []File{big}, Size: 3 << 40}, "more than FAT32", 0},
		{"file too large", Spec{Files: []File{{"x", io.NewSectionReader(zeros{}, 0, 1<<32)}}}, "4 GiB less one", 0},
		{"sector size", Spec{Files: samples(), SectorSize: 520}, "520", 0},
		{"label", Spec{Files: samples(), Label: "lower"}, "lower", 0},
	} {
		m, err := New(tt.spec)
		switch {
		case tt.want != "":
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: New = %v, want %q", tt.name, err, tt.want)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case m.Size() != tt.size:
			t.Errorf("%s: %d MiB and %d bytes, want %d MiB", tt.name, m.Size()>>20, m.Size()&(1<<20-1), tt.size>>20)
		}
	}
}

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

func TestNamesRefused(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{
		{""}, {"/a"}, {"a/"}, {"a//b"}, {"."}, {"a/../b"}, {"a:b"}, {"a?"}, {"tab\t"}, {"dot."}, {"blank "}, {" blank"},
		{"\xff"}, {strings.Repeat("x", 256)}, {"a", "A"}, {"a", "a/b"}, {"a/b", "A"},
	} {
		var files []File
		for _, name := range names {
			files = append(files, file(name, "x"))
		}
		if _, err := New(Spec{Files: files}); err == nil {
			t.Errorf("New with the files %q: no error", names)
		}
	}
}
