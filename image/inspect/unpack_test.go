package inspect

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/image/archive"
	"hapax/tests/need"
)

// Unpack makes what GNU cpio and bsdtar make of the same archive.
func TestUnpackLikeOthers(t *testing.T) {
	t.Parallel()
	image := newc(
		rec{name: ".", mode: folder},
		rec{name: "etc", mode: folder - 0o55}, // nobody else may look
		rec{name: "etc/private", mode: regular - 0o44, content: "secret"},
		rec{name: "usr", mode: folder}, rec{name: "usr/lib", mode: folder},
		rec{name: "lib", mode: symlink, content: "usr/lib"},
		rec{name: "lib/a b\n", mode: regular, content: "content"},
		rec{name: "sh", mode: symlink, content: "/bin/sh"},
		rec{name: "readonly", mode: folder - 0o222}, rec{name: "readonly/file", mode: regular, content: "x"},
		rec{name: "h1", mode: program, inode: 9, links: 3}, rec{name: "h2", mode: program, inode: 9, links: 3},
		rec{name: "usr/h3", mode: program, inode: 9, links: 3, content: "thrice"},
		rec{name: "empty", mode: regular}, rec{name: "sticky", mode: folder | 0o1022},
	)
	dir := filepath.Join(t.TempDir(), "new")
	done, err := Unpack(open(t, image), dir, UnpackOptions{})
	if err != nil || done.Files != 14 || done.Skipped != 0 {
		t.Fatalf("Unpack = %+v, %v; want 14 files", done, err)
	}
	got := tree(t, dir)
	a, errA := os.Stat(filepath.Join(dir, "h1"))
	b, errB := os.Stat(filepath.Join(dir, "usr/h3"))
	if err := errors.Join(errA, errB); err != nil || !os.SameFile(a, b) {
		t.Errorf("h1 and h3 are two files: %v", err)
	}
	for _, tool := range [][]string{{"cpio", "-idm", "--quiet"}, {"bsdtar", "-xpPf", "-"}} {
		program, err := exec.LookPath(tool[0])
		if err != nil {
			need.Unmet(t, "tests/setup/apt.go names the package of what is missing: %v", err)
		}
		other := t.TempDir()
		cmd := exec.CommandContext(t.Context(), program, tool[1:]...)
		cmd.Dir, cmd.Stdin = other, strings.NewReader(image)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", tool, err, out)
		}
		if diff := cmp.Diff(tree(t, other), got); diff != "" {
			t.Errorf("beside %s (-%[1]s +hapax):\n%s", tool[0], diff)
		}
	}
}

// The archives of an image lie on top of one another, and each may be had alone.
func TestUnpackArchives(t *testing.T) {
	t.Parallel()
	image := newc(rec{name: "early", mode: regular, content: "1"}, rec{name: "both", mode: folder}) +
		squeeze(t, archive.XZ, newc(rec{name: "main", mode: regular, content: "2"}, rec{name: "both", mode: regular, content: "3"}))
	for which, want := range map[int][]string{
		0: {"-rwxrwxrwx both = 3", "-rwxrwxrwx early = 1", "-rwxrwxrwx main = 2"},
		1: {"drwxrwxrwx both", "-rwxrwxrwx early = 1"},
		2: {"-rwxrwxrwx both = 3", "-rwxrwxrwx main = 2"},
	} {
		dir := t.TempDir()
		if _, err := Unpack(open(t, image), dir, UnpackOptions{Archive: which}); err != nil {
			t.Fatal(err)
		}
		got := tree(t, dir)
		for i := range got { // their modes are the business of another test
			got[i] = got[i][:1] + "rwxrwxrwx" + got[i][10:]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("archive %d (-want +got):\n%s", which, diff)
		}
	}
	if _, err := Unpack(open(t, image), t.TempDir(), UnpackOptions{Archive: 3}); err == nil || !strings.Contains(err.Error(), "no archive 3") {
		t.Errorf("Unpack of an archive that is not there = %v", err)
	}
}

// Whatever an image holds, it is an error with a cause, and nothing outside of the folder is touched.
func TestUnpackHostile(t *testing.T) {
	t.Parallel()
	file := func(name string) rec { return rec{name: name, mode: regular, content: "overwritten"} }
	link := func(name, target string) rec { return rec{name: name, mode: symlink, content: target} }
	dir := func(name string) rec { return rec{name: name, mode: folder} }
	bomb := squeeze(t, archive.Zstd, newc(rec{name: "zeros", mode: regular, content: strings.Repeat("\x00", 2<<20)}))
	const outside = "$OUTSIDE"
	for name, tt := range map[string]struct {
		records     []rec // with outside for the folder that the one to unpack into lies in
		image, want string
	}{
		"dots":                   {[]rec{file("../canary")}, "", `".." in a name`},
		"dots inside":            {[]rec{dir("a"), file("a/../../canary")}, "", `".." in a name`},
		"dots at the end":        {[]rec{dir("a/..")}, "", `".." in a name`},
		"absolute":               {[]rec{file(outside + "/canary")}, "", "an absolute name"},
		"no name":                {[]rec{file("")}, "", "an empty name"},
		"link that climbs":       {[]rec{link("l", "../canary")}, "", "outside of the folder"},
		"deep link that climbs":  {[]rec{dir("a"), link("a/l", "../x/../../canary")}, "", "outside of the folder"},
		"climbs behind a link":   {[]rec{dir("p"), dir("p/q"), link("p/q/up", "../.."), link("p/q/up/l", "../canary")}, "", "outside of the folder"},
		"climbs by way of one":   {[]rec{dir("p"), dir("p/q"), link("p/q/up", "../.."), link("m", "p/q/up/../canary")}, "", "outside of the folder"},
		"climbs by a later one":  {[]rec{dir("p"), link("m", "p/q/../../canary"), link("p/q", "..")}, "", "outside of the folder"},
		"through an absolute":    {[]rec{link("l", outside), file("l/canary")}, "", "a link that leads out of the folder"},
		"through two":            {[]rec{link("k", "/"), link("l", "k/tmp"), file("l/canary")}, "", "a link that leads out of the folder"},
		"folder through a link":  {[]rec{link("l", outside), dir("l/new")}, "", "a link that leads out of the folder"},
		"link through a link":    {[]rec{link("l", outside), link("l/canary", "x")}, "", "a link that leads out of the folder"},
		"hard link through one":  {[]rec{link("l", outside), rec{name: "a", mode: regular, inode: 1, links: 2, content: "x"}, rec{name: "l/canary", mode: regular, inode: 1, links: 2, content: "y"}}, "", "a link that leads out of the folder"},
		"circle":                 {[]rec{link("a", "b"), link("b", "a"), file("a/x")}, "", "a/x"},
		"file over a folder":     {[]rec{dir("a"), file("a/x"), file("a")}, "", "not empty"},
		"below a file":           {[]rec{file("a"), file("a/b")}, "", "a/b"},
		"folder in a place":      {[]rec{dir("a"), file("a/x"), link("a", "b")}, "", "not empty"},
		"bomb":                   {nil, bomb, "more content than the limit"},
		"many files":             {nil, strings.Repeat(file("a").String(), 200) + newc(), "more content than the limit"},
		"no trailer":             {nil, file("a").String(), "cut short"},
		"4 GiB name":             {nil, strings.Replace(newc(file("a")), "0000000200000000a", "ffffffff00000000a", 1), "a name of 4294967295 bytes"},
		"4 GiB file":             {[]rec{{name: "a", mode: regular, content: "x", size: 1<<32 - 1}}, "", "cut short"},
		"name beyond the host's": {[]rec{file(strings.Repeat("n", 300))}, "", "file name too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := t.TempDir()
			canary := filepath.Join(top, "canary")
			if err := os.WriteFile(canary, []byte("whole"), 0o600); err != nil {
				t.Fatal(err)
			}
			image := tt.image
			if tt.records != nil {
				for i := range tt.records {
					tt.records[i].name = strings.ReplaceAll(tt.records[i].name, outside, top)
					tt.records[i].content = strings.ReplaceAll(tt.records[i].content, outside, top)
				}
				image = newc(tt.records...)
			}
			before := tree(t, top)
			dir := filepath.Join(top, "dir")
			_, err := Unpack(open(t, image), dir, UnpackOptions{Limits: archive.Limits{Content: 1 << 20, Entries: 100}})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Unpack = %v, want an error with %q", err, tt.want)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, tree(t, top)); diff != "" {
				t.Errorf("outside of the folder (-before +after):\n%s", diff)
			}
		})
	}
}

// Links that lead nowhere outside when the image is the root are made as they are.
func TestUnpackLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	image := newc(rec{name: "a", mode: folder}, rec{name: "a/up", mode: symlink, content: "../b"},
		rec{name: "abs", mode: symlink, content: "/etc/passwd"}, rec{name: "a/down", mode: symlink, content: "./x/.././y"},
		rec{name: "abs", mode: regular, content: "in its place"})
	if _, err := Unpack(open(t, image), dir, UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil || strings.Contains(string(passwd), "in its place") {
		t.Errorf("/etc/passwd was written through the link (%v)", err)
	}
	var links []string
	for _, line := range tree(t, dir) {
		links = append(links, line[11:])
	}
	if diff := cmp.Diff([]string{"a", "a/down -> ./x/.././y", "a/up -> ../b", "abs = in its place"}, links); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
}

// Device nodes and set-user-id bits are for root to ask for.
func TestUnpackNodes(t *testing.T) {
	t.Parallel()
	image := newc(
		rec{name: "null", mode: node, rdev: [2]uint32{1, 3}}, rec{name: "pipe", mode: 0o010600}, rec{name: "disk", mode: 0o060660, rdev: [2]uint32{254, 1}},
		rec{name: "su", mode: program | 0o4000, content: "x"},
	)
	dir := t.TempDir()
	done, err := Unpack(open(t, image), dir, UnpackOptions{})
	if err != nil || done != (Unpacked{Files: 1, Bytes: 1, Skipped: 3}) {
		t.Fatalf("Unpack = %+v, %v; want one file and three left out", done, err)
	}
	if diff := cmp.Diff([]string{"-rwxr-xr-x su = x"}, tree(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	huge := newc(rec{name: "huge", mode: node, rdev: [2]uint32{1 << 31, 1}})
	if _, err := Unpack(open(t, huge), t.TempDir(), UnpackOptions{AsRoot: true}); err == nil || !strings.Contains(err.Error(), "which no kernel has") {
		t.Errorf("a device number beyond the kernel's: %v", err)
	}
	need.Root(t)
	dir = t.TempDir()
	if done, err = Unpack(open(t, image), dir, UnpackOptions{AsRoot: true}); err != nil || done.Files != 4 || done.Skipped != 0 {
		t.Fatalf("Unpack as root = %+v, %v; want four files", done, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, "null"), &st); err != nil || st.Mode != unix.S_IFCHR|0o600 || st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("null is %o %x, %v; want a character device 1:3", st.Mode, st.Rdev, err)
	}
	if info, err := os.Lstat(filepath.Join(dir, "su")); err != nil || info.Mode() != fs.ModeSetuid|0o755 {
		t.Errorf("su is %v, %v; want the set-user-id bit", info.Mode(), err)
	}
}

func TestUnpackFolder(t *testing.T) {
	t.Parallel()
	image := newc(rec{name: "a", mode: regular})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		dir: "is not empty", filepath.Join(dir, "mine"): "mine", filepath.Join(dir, "no/where"): "no such file",
	} {
		if _, err := Unpack(open(t, image), name, UnpackOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Unpack into %s = %v, want an error with %q", name, err, want)
		}
	}
	if diff := cmp.Diff([]string{"-rw------- mine = "}, tree(t, dir)); diff != "" {
		t.Errorf("the folder (-want +got):\n%s", diff)
	}
}

// Nothing that an image holds reaches outside.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte(newc(rec{name: "l", mode: symlink, content: "/tmp"}, rec{name: "l/x", mode: regular, content: "x"})))
	f.Add([]byte(newc(rec{name: "a", mode: folder}, rec{name: "a/l", mode: symlink, content: ".."}, rec{name: "a/l/a/x", mode: regular, content: "x", links: 2})))
	f.Fuzz(func(t *testing.T, image []byte) {
		top := t.TempDir()
		s, err := newSource(t.Context(), "image", section(string(image)), "")
		if err != nil {
			return
		}
		_, _ = Unpack(s, filepath.Join(top, "dir"), UnpackOptions{Limits: archive.Limits{Content: 1 << 20, Entries: 100}})
		entries, err := os.ReadDir(top)
		if err != nil || len(entries) != 1 {
			t.Errorf("beside the folder there is %v, %v", entries, err)
		}
	})
}
