package tests

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hapax/image/archive"
	"hapax/tests/internal/lab"
	"hapax/tests/need"
)

// An image as distributions make them, microcode in front of a compressed archive, is listed by hapax as by the tools of
// everybody else.
func TestListLikeOthers(t *testing.T) {
	t.Parallel()
	need.Long(t)
	l, err := openLab()
	if err != nil {
		t.Fatal(err)
	}
	hapax, err := l.Hapax(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	peers := peerTools(t, l)
	early := plainArchive(t, archive.Bytes("kernel/x86/microcode/GenuineIntel.bin", 0o644, bytes.Repeat([]byte("u"), 2048)))
	main := plainArchive(t,
		archive.Bytes("init", 0o755, []byte("#!/bin/sh\n")), archive.Symlink("lib", "usr/lib"), archive.Dir("usr/lib/modules", 0o755),
		archive.CharDevice("dev/console", 0o600, archive.Devno{Major: 5, Minor: 1}), archive.Bytes("etc/a b", 0o600, []byte("x")),
		archive.Bytes("usr/lib/large", 0o644, bytes.Repeat([]byte("0123456789"), 10_000)),
	)
	for _, c := range archive.Compressions() {
		image := pack(t, c, main)
		if c != archive.None && c != archive.Gzip { // these two alone, for cpio and bsdtar
			image = slices.Concat(early, image)
		}
		file := filepath.Join(t.TempDir(), string(c))
		if err := os.WriteFile(file, image, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), hapax, "ls", file).Output()
		if err != nil {
			t.Fatal(err)
		}
		want := listed(string(out))
		for _, p := range peers {
			if !slices.Contains(p.formats, c) {
				continue
			}
			got, err := p.list(t, file)
			if err != nil {
				t.Errorf("%s with %s: %v", p.name, c, err)
			} else if diff := cmp.Diff(got, want); diff != "" {
				t.Errorf("%s with %s (-%[1]s +hapax):\n%s", p.name, c, diff)
			}
		}
	}
}

// pack compresses an archive.
func pack(t *testing.T, c archive.Compression, plain []byte) []byte {
	t.Helper()
	var packed bytes.Buffer
	z, err := archive.NewCompressor(&packed, c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// plainArchive returns an archive, with zeros behind it as early ones have them.
func plainArchive(t *testing.T, entries ...archive.Entry) []byte {
	t.Helper()
	var tree archive.Tree
	for _, e := range entries {
		if err := tree.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := archive.Write(&b, tree.Entries(), time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), make([]byte, -b.Len()&511)...)
}

// listed returns the lines of a listing in order, without the root.
func listed(listing string) []string {
	lines := strings.Split(strings.TrimSpace(listing), "\n")
	lines = slices.DeleteFunc(lines, func(line string) bool { return line == "" || line == "." })
	slices.Sort(lines)
	return slices.Compact(lines)
}

// A peer is a program that lists images.
type peer struct {
	name    string
	formats []archive.Compression // that it reads, or that the images which it reads have
	list    func(t *testing.T, file string) ([]string, error)
}

// peerTools returns the programs to compare with. Those of initramfs-tools and dracut run out of their packages, which are
// not installed.
func peerTools(t *testing.T, l *lab.Lab) []peer {
	t.Helper()
	folder := func(name string) string {
		p, err := l.Package(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return p.Root
	}
	run := func(t *testing.T, env []string, stdin string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Env = append(os.Environ(), env...)
		if stdin != "" {
			f, err := os.Open(stdin)
			if err != nil {
				return "", err
			}
			defer f.Close()
			cmd.Stdin = f
		}
		out, err := cmd.Output()
		return string(out), err
	}
	tools := filepath.Join(folder("initramfs-tools-core"), "usr/bin")
	dracut := folder("dracut-core")
	return []peer{
		{"cpio", []archive.Compression{archive.None}, func(t *testing.T, file string) ([]string, error) {
			out, err := run(t, nil, file, "cpio", "-it", "--quiet")
			return listed(out), err
		}},
		{"bsdtar", []archive.Compression{archive.None, archive.Gzip},
			func(t *testing.T, file string) ([]string, error) {
				out, err := run(t, nil, "", "bsdtar", "-tf", file)
				return listed(strings.ReplaceAll(out, "/\n", "\n")), err
			}},
		// It reads no plain images, and tries lz4 in a way that does not know the block of size 0 at the end.
		{"lsinitramfs", []archive.Compression{archive.Gzip, archive.XZ, archive.Zstd}, func(t *testing.T, file string) ([]string, error) {
			out, err := run(t, []string{"PATH=" + tools + ":" + os.Getenv("PATH")}, "", "sh", filepath.Join(tools, "lsinitramfs"), file)
			return listed(out), err
		}},
		{"lsinitrd", archive.Compressions(), func(t *testing.T, file string) ([]string, error) {
			out, err := run(t, []string{"dracutbasedir=" + filepath.Join(dracut, "usr/lib/dracut")}, "",
				"bash", filepath.Join(dracut, "usr/bin/lsinitrd"), file)
			return longNames(out), err
		}},
	}
}

// longNames returns the names in a listing like that of ls -l: MODE LINKS OWNER GROUP SIZE MONTH DAY TIME NAME [-> TARGET], where
// a device has MAJOR, MINOR for a size.
func longNames(listing string) []string {
	var found []string
	for line := range strings.Lines(listing) {
		fields := strings.Fields(line)
		if len(fields) < 9 || len(fields[0]) != 10 || !strings.ContainsAny(fields[0][:1], "-dlcbps") {
			continue
		}
		skip := 8
		if strings.HasSuffix(fields[4], ",") {
			skip++
		}
		name, _, _ := strings.Cut(strings.Join(fields[skip:], " "), " -> ")
		found = append(found, name)
	}
	return listed(strings.Join(found, "\n"))
}
