package image

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hapax/image/modfile"
	"hapax/modload/modindex"
	"hapax/tests/need"
)

// A build that is killed at any moment leaves the old image or the new one, whole.
func TestKilled(t *testing.T) {
	t.Parallel()
	if out := os.Getenv("HAPAX_TEST_BUILD"); out != "" {
		spec := testSpec(t)
		spec.Output, spec.Force = out, true
		for n := int64(1); ; n++ {
			spec.Time = time.Unix(n%2, 0)
			if _, err := Build(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
		}
	}
	kills := 15
	if need.Full() {
		kills = 200
	}
	spec := testSpec(t)
	var whole [2][]byte
	for n := range whole {
		spec.Time, spec.Force = time.Unix(int64(n), 0), true
		if _, err := Build(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(spec.Output)
		if err != nil {
			t.Fatal(err)
		}
		whole[n] = content
	}
	random := rand.New(rand.NewPCG(1, uint64(kills))) //nolint:gosec // moments, not keys
	seen := map[int]int{}
	for range kills {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
		child.Env = append(os.Environ(), "HAPAX_TEST_BUILD="+spec.Output, "TMPDIR="+t.TempDir())
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+random.IntN(60)) * time.Millisecond)
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := child.Wait(); err == nil {
			t.Fatal("the build ended by itself")
		}
		content, err := os.ReadFile(spec.Output)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case bytes.Equal(content, whole[0]):
			seen[0]++
		case bytes.Equal(content, whole[1]):
			seen[1]++
		default:
			t.Fatalf("%d bytes that are neither of the images", len(content))
		}
	}
	t.Logf("found the one image %d times, the other %d times", seen[0], seen[1])
}

// A disk that is full in the middle of the work costs the build and nothing else.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	need.Root(t)
	spec := testSpec(t)
	dir := filepath.Dir(spec.Output)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		need.Unmet(t, "a small file system is not to be had here: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	writeFile(t, spec.Output, "old", 0o644)
	spec.Force = true
	noise := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	writeFile(t, filepath.Join(spec.ModulesDir, "kernel/fs/fat/fat.ko.xz"), string(noise), 0o644)
	_, err := Build(t.Context(), spec)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), spec.Output) {
		t.Errorf("Build = %v, want ENOSPC and the name of the image", err)
	}
	if old, err := os.ReadFile(spec.Output); err != nil || string(old) != "old" {
		t.Errorf("the old image is %q, %v", old, err)
	}
	if names := fileNames(t, dir); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

// A file that newc cannot hold is refused before anything is written. It is sparse, so it takes no place.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	large := filepath.Join(t.TempDir(), "large")
	writeFile(t, large, "", 0o644)
	if err := os.Truncate(large, 1<<32); err != nil {
		need.Unmet(t, "the file system holds no file of 4 GiB: %v", err)
	}
	spec.Includes = []Include{{Source: large, Target: "/large"}}
	if _, err := Build(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "4 GiB") {
		t.Errorf("Build with a file of 4 GiB = %v", err)
	}
}

// An image with microcode in front reads as two archives.
func TestMicrocodeIsAnArchive(t *testing.T) {
	t.Parallel()
	early, err := earlyArchive(Spec{Time: time.Unix(0, 0)}, []byte("amd"), []byte("intel"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "early")
	if err := os.WriteFile(file, early, 0o644); err != nil {
		t.Fatal(err)
	}
	got := listing(t, file)
	for _, want := range []string{" early_cpio\n", "    3 kernel/x86/microcode/AuthenticAMD.bin\n", "    5 kernel/x86/microcode/GenuineIntel.bin\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the archive lacks %q:\n%s", want, got)
		}
	}
	if len(early)%earlyEnd != 0 {
		t.Errorf("%d bytes", len(early))
	}
}

// No module of the folders that are not searched for it names firmware, on the trees that HAPAX_TEST_MODULES names: some of
// the modules, all of them with HAPAX_TEST_FULL. And some others do, or this were no test.
func TestFirmwareFolders(t *testing.T) {
	t.Parallel()
	trees := need.Trees(t)
	every := 101
	if need.Full() {
		every = 1
	}
	skipped, named, n := 0, 0, 0
	for _, dir := range trees {
		x, err := modindex.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		for m := range x.All() {
			if n++; n%every != 0 {
				continue
			}
			info, err := modfile.Info(filepath.Join(dir, m.Path))
			if err != nil {
				t.Fatal(err)
			}
			firmware := modfile.Values(info, "firmware")
			named += len(firmware)
			if namesNoFirmware(m.Path) {
				skipped++
				if len(firmware) > 0 {
					t.Errorf("%s names %q and is not searched", m.Path, firmware)
				}
			}
		}
	}
	t.Logf("%d modules not searched, %d names in the others", skipped, named)
	if skipped == 0 || named == 0 {
		t.Error("not a test")
	}
}
