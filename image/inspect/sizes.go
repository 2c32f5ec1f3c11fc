package inspect

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"
)

// A Share is what a folder of an image, or a file at its top, takes of its content.
type Share struct {
	Path  string `json:"path"`
	Files int    `json:"files"` // regular ones; the names of one file count once
	Bytes int64  `json:"bytes"`
}

// Sizes returns what takes how much of an image, the largest share first: the folders two levels below the kernel's own for
// modules, the first two levels for everything else.
func (t *Tree) Sizes() []Share {
	shares := map[string]*Share{}
	seen := map[*Content]bool{}
	for _, f := range t.Files() {
		if f.Content == nil || seen[f.Content] {
			continue
		}
		seen[f.Content] = true
		name := shareOf(f.Path)
		if shares[name] == nil {
			shares[name] = &Share{Path: name}
		}
		shares[name].Files++
		shares[name].Bytes += f.Content.Size
	}
	return slices.SortedFunc(func(yield func(Share) bool) {
		for s := range maps.Values(shares) {
			if !yield(*s) {
				return
			}
		}
	}, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Path, b.Path))
	})
}

// shareOf returns the folder that a file is counted for.
func shareOf(name string) string {
	dir := path.Dir(name)
	if dir == "." {
		return name
	}
	levels := 2
	if inModules(name) {
		levels = len(strings.Split("lib/modules/release/kernel/drivers/scsi", "/"))
	}
	if strings.HasPrefix(dir, "usr/") {
		levels++
	}
	parts := strings.Split(dir, "/")
	return strings.Join(parts[:min(levels, len(parts))], "/") + "/"
}
