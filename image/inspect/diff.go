package inspect

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"hapax/modload/modindex"
)

// A Difference is what lies between two images.
type Difference struct {
	A       Summary  `json:"a"`
	B       Summary  `json:"b"`
	Added   []Change `json:"added"`   // files that only B has
	Removed []Change `json:"removed"` // files that only A has
	Changed []Change `json:"changed"`
	Modules struct { // by name, wherever they lie and however they are packed
		Added   []string `json:"added"`
		Removed []string `json:"removed"`
	} `json:"modules"`
}

// Same reports whether the two images unpack to the same files.
func (d *Difference) Same() bool {
	return len(d.Added)+len(d.Removed)+len(d.Changed) == 0
}

// A Summary describes one image.
type Summary struct {
	Image    string   `json:"image"`
	Kind     Kind     `json:"kind"`
	Size     int64    `json:"size_bytes"` // of the file
	Content  int64    `json:"content_bytes"`
	Formats  []string `json:"formats"`
	Files    int      `json:"files"`
	Modules  int      `json:"modules"`
	Releases []string `json:"releases"` // of the kernels that it has modules for
}

// A Change is a file that is not the same in both images.
type Change struct {
	Path string   `json:"path"`           // in B, or in A if only that has it
	Size [2]int64 `json:"size"`           // in A and in B; 0 where it is not
	What []string `json:"what,omitempty"` // of a changed file: "content", "mode", "owner", "link", "device", "type"
}

// Summarize describes an image.
func Summarize(t *Tree) Summary {
	s := Summary{
		Image: t.Source.Name, Kind: t.Source.Kind, Size: t.Source.Size, Content: t.Bytes,
		Files: len(t.files) - 1, Modules: len(t.Modules()), Releases: t.Releases(), Formats: []string{},
	}
	for _, f := range t.Formats {
		s.Formats = append(s.Formats, string(f))
	}
	return s
}

// Diff compares two images that were read with Options.Sum. Times do not count: they differ in images that are otherwise the
// same. When each has modules for one release and these are not the same, the folder of the one stands for that of the other.
func Diff(a, b *Tree) *Difference {
	d := &Difference{A: Summarize(a), B: Summarize(b), Added: []Change{}, Removed: []Change{}, Changed: []Change{}}
	d.Modules.Added, d.Modules.Removed = []string{}, []string{}
	key := func(name string) string { return name }
	if len(d.A.Releases) == 1 && len(d.B.Releases) == 1 && d.A.Releases[0] != d.B.Releases[0] {
		from, to := "lib/modules/"+d.A.Releases[0], "lib/modules/"+d.B.Releases[0]
		key = func(name string) string {
			for _, top := range []string{"", "usr/"} {
				if rest, ok := strings.CutPrefix(name, top+from); ok && (rest == "" || rest[0] == '/') {
					return top + to + rest
				}
			}
			return name
		}
	}
	old := map[string]*File{}
	for _, f := range a.Files() {
		old[key(f.Path)] = f
	}
	for _, f := range b.Files() {
		before, ok := old[f.Path]
		delete(old, f.Path)
		if !ok {
			d.Added = append(d.Added, Change{Path: f.Path, Size: [2]int64{0, f.size()}})
		} else if what := changes(before, f); len(what) > 0 {
			d.Changed = append(d.Changed, Change{Path: f.Path, Size: [2]int64{before.size(), f.size()}, What: what})
		}
	}
	for _, f := range old {
		d.Removed = append(d.Removed, Change{Path: f.Path, Size: [2]int64{f.size(), 0}})
	}
	slices.SortFunc(d.Removed, func(x, y Change) int { return cmp.Compare(x.Path, y.Path) })
	inA, inB := a.Modules(), b.Modules()
	for _, name := range slices.Sorted(maps.Keys(inB)) {
		if inA[name] == nil {
			d.Modules.Added = append(d.Modules.Added, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(inA)) {
		if inB[name] == nil {
			d.Modules.Removed = append(d.Modules.Removed, name)
		}
	}
	return d
}

// changes names what is not the same.
func changes(a, b *File) (what []string) {
	if a.Mode.Type() != b.Mode.Type() {
		return []string{fmt.Sprintf("type %v -> %v", a.Mode.Type(), b.Mode.Type())}
	}
	if a.Mode != b.Mode {
		what = append(what, fmt.Sprintf("mode %v -> %v", a.Mode, b.Mode))
	}
	if a.UID != b.UID || a.GID != b.GID {
		what = append(what, fmt.Sprintf("owner %d:%d -> %d:%d", a.UID, a.GID, b.UID, b.GID))
	}
	if a.Link != b.Link {
		what = append(what, fmt.Sprintf("link %s -> %s", a.Link, b.Link))
	}
	if a.Mode&fs.ModeDevice != 0 && a.Dev != b.Dev {
		what = append(what, fmt.Sprintf("device %d:%d -> %d:%d", a.Dev.Major, a.Dev.Minor, b.Dev.Major, b.Dev.Minor))
	}
	if a.Content != nil && (a.Content.Size != b.Content.Size || a.Content.Sum != b.Content.Sum) {
		what = append(what, "content")
	}
	return what
}

// size returns the length of a regular file, 0 for others.
func (f *File) size() int64 {
	if f.Content == nil {
		return 0
	}
	return f.Content.Size
}

// Modules returns the module files of the image by the names of the modules. Of two with one name, the last by path counts.
func (t *Tree) Modules() map[string]*File {
	modules := map[string]*File{}
	for _, f := range t.Files() {
		if f.Mode.IsRegular() && IsModule(f.Path) {
			modules[modindex.NameOf(f.Path)] = f
		}
	}
	return modules
}

// IsModule reports whether a file of an image is a kernel module, packed or not, by its name.
func IsModule(name string) bool {
	_, suffix, ok := strings.Cut(path.Base(name), ".ko")
	return ok && inModules(strings.TrimPrefix(name, "/")) && slices.Contains([]string{"", ".xz", ".zst", ".gz"}, suffix)
}

// inModules reports whether a path is below a folder of modules.
func inModules(name string) bool {
	return strings.HasPrefix(name, "lib/modules/") || strings.HasPrefix(name, "usr/lib/modules/")
}

// Releases returns the names of the folders below lib/modules that have something in them, sorted.
func (t *Tree) Releases() []string {
	releases := []string{}
	for _, top := range []string{"lib/modules", "usr/lib/modules"} {
		for name, f := range t.files {
			if path.Dir(name) == top && f.Mode.IsDir() && f.children > 0 && !slices.Contains(releases, path.Base(name)) {
				releases = append(releases, path.Base(name))
			}
		}
	}
	slices.Sort(releases)
	return releases
}
