package inspect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/image/archive"
)

// describe lists the files of a tree with what their contents are.
func describe(t *testing.T, tree *Tree) []string {
	t.Helper()
	var list []string
	for _, f := range tree.Files() {
		line := f.Path
		switch f.Mode.Type() {
		case fs.ModeDir:
			line += "/"
		case fs.ModeSymlink:
			line += " -> " + f.Link
		case 0:
			line += fmt.Sprintf(" = %s (%d)", f.Content.Data, f.Content.Size)
		}
		list = append(list, line)
	}
	return list
}

// A tree is what the kernel's unpacking leaves.
func TestTree(t *testing.T) {
	t.Parallel()
	first := newc(
		rec{name: ".", mode: folder},
		rec{name: "./usr", mode: folder},
		rec{name: "usr/lib", mode: folder},
		rec{name: "lib", mode: symlink, content: "usr/lib"},
		rec{name: "lib/a", mode: regular, content: "old"}, // through the link
		rec{name: "/abs", mode: regular, content: "abs"},
		rec{name: "lost/file", mode: regular, content: "x"}, // no folder
		rec{name: "usr", mode: regular, content: "x"},       // a folder with files in it
		rec{name: "h1", mode: regular, inode: 7, links: 2},
		rec{name: "h2", mode: regular, inode: 7, links: 2, content: "both"},
		rec{name: "empty", mode: folder},
		rec{name: "up", mode: symlink, content: "../../usr/../lib/a"},
	)
	second := newc(
		rec{name: "usr/lib/a", mode: regular, content: "new"},
		rec{name: "empty", mode: regular, content: "now a file"},
		rec{name: "h3", mode: regular, inode: 7, links: 2}, // of another archive: not the same file
		rec{name: "abs", mode: symlink, content: "/lib/a"},
	)
	all := Options{Keep: func(string, int64) bool { return true }}
	tree := read(t, first+squeeze(t, archive.Zstd, second), all)
	want := []string{
		"abs -> /lib/a", "empty = now a file (10)", "h1 = both (4)", "h2 = both (4)", "h3 =  (0)", "lib -> usr/lib",
		"up -> ../../usr/../lib/a", "usr/", "usr/lib/", "usr/lib/a = new (3)",
	}
	if diff := cmp.Diff(want, describe(t, tree)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	wantProblems := []string{"lost/file: there is no folder /lost for it", "usr: there is a folder of that name, which is not empty"}
	if diff := cmp.Diff(wantProblems, tree.Problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{
		"abs": "usr/lib/a", "/up": "usr/lib/a", "lib/../lib": "usr/lib", "lib/./a": "usr/lib/a", "": ".", "/..": ".",
		"lib/b": "", "abs/x": "", "h1/..": "", "nowhere": "",
	} {
		f, ok := tree.Lookup(name)
		if got := ""; ok != (want != "") || ok && f.Path != want {
			if ok {
				got = f.Path
			}
			t.Errorf("Lookup(%q) = %q, want %q", name, got, want)
		}
	}
	if f, ok := tree.Lstat("lib"); !ok || f.Link != "usr/lib" {
		t.Errorf("Lstat(lib) = %+v, %v; want the link itself", f, ok)
	}
}

func TestTreeLoops(t *testing.T) {
	t.Parallel()
	tree := read(t, newc(
		rec{name: "a", mode: symlink, content: "b"},
		rec{name: "b", mode: symlink, content: "a/../a"},
		rec{name: "c", mode: symlink, content: "c/c/c/c"},
		rec{name: "c/d", mode: regular},
	), Options{})
	for _, name := range []string{"a", "b", "c", "c/d"} {
		if f, ok := tree.Lookup(name); ok {
			t.Errorf("Lookup(%s) = %s, want nothing: the links lead in a circle", name, f.Path)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	image := newc(
		rec{name: "a", mode: regular, content: "first"}, rec{name: "b", mode: regular, content: "second"},
		rec{name: "a", mode: regular, content: "third"}, rec{name: "c", mode: regular},
	)
	for _, spare := range []int64{0, 8, 1 << 20} {
		tree := read(t, squeeze(t, archive.Gzip, image), Options{Spare: spare, Sum: true})
		var files []*File
		for _, name := range []string{"a", "b", "c"} {
			f, _ := tree.Lookup(name)
			files = append(files, f)
		}
		if err := tree.Load(files...); err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"third", "second", ""} {
			if got := string(files[i].Content.Data); got != want {
				t.Errorf("spare %d: file %d holds %q, want %q", spare, i, got, want)
			}
		}
	}
}

func TestReadStops(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	image := newc(rec{name: "a", mode: regular})
	s, err := newSource(ctx, "image", section(image), "")
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("enough")
	cancel(why)
	if _, err := Read(s, Options{}); !errors.Is(err, why) {
		t.Errorf("Read = %v, want %v", err, why)
	}
}

// What is kept has a bound, whatever the limits on the content are.
func TestReadBoundsMemory(t *testing.T) {
	t.Parallel()
	image := newc(rec{name: "a", mode: regular, content: strings.Repeat("x", 600)}, rec{name: "b", mode: regular, content: strings.Repeat("x", 600)})
	o := Options{Keep: func(string, int64) bool { return true }, memory: 1000}
	if _, err := Read(open(t, image), o); !errors.Is(err, ErrMemory) {
		t.Errorf("Read = %v, want %v", err, ErrMemory)
	}
	tree := read(t, image, Options{Spare: 1000, memory: 1000})
	if err := tree.Load(tree.Files()...); !errors.Is(err, ErrMemory) {
		t.Errorf("Load = %v, want %v", err, ErrMemory)
	}
}

func FuzzTree(f *testing.F) {
	f.Add([]byte(newc(rec{name: "a", mode: folder}, rec{name: "a/l", mode: symlink, content: "../a"}, rec{name: "a/l/x", mode: regular, content: "1"})))
	f.Add([]byte(newc(rec{name: "h", mode: regular, links: 2}, rec{name: "g", mode: regular, links: 2, content: "2"})))
	f.Fuzz(func(t *testing.T, image []byte) {
		s, err := newSource(t.Context(), "image", section(string(image)), "")
		if err != nil {
			return
		}
		tree, err := Read(s, Options{Limits: archive.Limits{Content: 1 << 20, Entries: 1000}, Sum: true, Spare: 1 << 10})
		if err != nil {
			return
		}
		files := tree.Files()
		for _, file := range files {
			if found, ok := tree.Lstat(file.Path); !ok || found != file {
				t.Errorf("%q is not where it says that it is", file.Path)
			}
			if strings.HasPrefix(file.Path, "/") || path.Clean(file.Path) != file.Path || strings.HasPrefix(file.Path, "..") {
				t.Errorf("the path %q is not clean", file.Path)
			}
		}
		if err := tree.Load(files...); err != nil {
			t.Errorf("Load: %v", err)
		}
		if d := Diff(tree, tree); !d.Same() {
			t.Errorf("an image is not the same as itself: %+v", d)
		}
	})
}
