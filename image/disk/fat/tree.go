package fat

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
)

// A node is a folder or a file.
type node struct {
	name     string
	short    [11]byte // the name that every reader knows
	long     []uint16 // the name in UTF-16 if the short one is another, else nil
	children []*node  // of a folder, not nil, by name; nil for a file
	content  *io.SectionReader
	size     int64  // of a file
	first    uint32 // cluster
}

// newTree makes the folders for files and gives everything its names.
func newTree(files []File) (*node, error) {
	root := &node{children: []*node{}}
	for _, f := range files {
		if err := root.add(f); err != nil {
			return nil, err
		}
	}
	root.finish()
	return root, nil
}

// add adds a file and the folders that lead to it.
func (n *node) add(f File) error {
	rest := f.Name
	for {
		name, below, folder := strings.Cut(rest, "/")
		if err := checkName(name); err != nil {
			return fmt.Errorf("fat: %s: %w", f.Name, err)
		}
		child := n.child(name)
		switch {
		case child == nil && folder:
			child = &node{name: name, children: []*node{}}
			n.children = append(n.children, child)
		case child == nil:
			n.children = append(n.children, &node{name: name, content: f.Content, size: f.Content.Size()})
			return nil
		case !folder || child.children == nil:
			return fmt.Errorf("fat: %s: there are two of this name (case makes no difference)", f.Name)
		}
		n, rest = child, below
	}
}

// child finds a child as FAT does, whatever the case.
func (n *node) child(name string) *node {
	for _, child := range n.children {
		if strings.EqualFold(child.name, name) {
			return child
		}
	}
	return nil
}

// finish sorts the tree, so that the order of the files makes no difference, and gives short names.
func (n *node) finish() {
	slices.SortFunc(n.children, func(a, b *node) int { return cmp.Compare(a.name, b.name) })
	taken := make(map[[11]byte]bool)
	for _, child := range n.children {
		if short, ok := exactShort(child.name); ok {
			child.short = short
			taken[short] = true
		}
	}
	for _, child := range n.children {
		if _, ok := exactShort(child.name); !ok {
			child.long = utf16.Encode([]rune(child.name))
			child.short = inventShort(child.name, taken)
			taken[child.short] = true
		}
		child.finish()
	}
}

// entries returns how many directory entries a node has in its folder.
func (n *node) entries() int64 { return 1 + ceil(int64(len(n.long)), longPerEntry) }

// folderSize returns the size of a folder's own content, with room for ".", ".." or the label and for an end.
func (n *node) folderSize() int64 {
	entries := int64(3)
	for _, child := range n.children {
		entries += child.entries()
	}
	return entries * entrySize
}

// clusters returns how many clusters the node needs with all that is in it.
func (n *node) clusters(size int64) int64 {
	if n.children == nil {
		return ceil(n.size, size)
	}
	need := ceil(n.folderSize(), size)
	for _, child := range n.children {
		need += child.clusters(size)
	}
	return need
}

// checkName refuses what FAT cannot store.
func checkName(name string) error {
	bad := func(r rune) bool {
		return r < ' ' || r == 0x7f || r == '\ufffd' || strings.ContainsRune(`"*/:<>?\|`, r)
	}
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%q is no name", name)
	case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") || strings.HasPrefix(name, " "):
		return fmt.Errorf("%q begins with a blank or ends in a blank or a dot, which FAT drops", name)
	case strings.ContainsFunc(name, bad):
		return fmt.Errorf("%q has a character that FAT cannot store", name)
	case len(utf16.Encode([]rune(name))) > 255:
		return fmt.Errorf("%.40q... is longer than 255 characters", name)
	}
	return nil
}

// shortCharacters are those of short names; others need a long one.
const shortCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'()-@^_`{}~"

// exactShort returns a name that is a short one as it is.
func exactShort(name string) ([11]byte, bool) {
	base, extension, dot := strings.Cut(name, ".")
	if base == "" || len(base) > 8 || len(extension) > 3 || dot && extension == "" ||
		strings.Trim(base+extension, shortCharacters) != "" {
		return [11]byte{}, false
	}
	return short(base, extension), true
}

func short(base, extension string) [11]byte {
	return [11]byte(fmt.Appendf(nil, "%-8s%-3s", base, extension))
}

// inventShort returns a short name that is not taken, for a name that is none.
func inventShort(name string, taken map[[11]byte]bool) [11]byte {
	name = strings.ToUpper(name)
	base, extension := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		base, extension = name[:i], name[i+1:]
	}
	base, extension = reduce(base, 8), reduce(extension, 3)
	for i := 1; ; i++ {
		tail := fmt.Sprintf("~%d", i)
		s := short(base[:min(len(base), 8-len(tail))]+tail, extension)
		if !taken[s] {
			return s
		}
	}
}

// reduce keeps up to n characters of a name, those that short names do not know as an underscore.
func reduce(name string, n int) string {
	var b strings.Builder
	for _, r := range name {
		switch {
		case b.Len() == n:
		case r == ' ' || r == '.':
		case strings.ContainsRune(shortCharacters, r):
			b.WriteRune(r)
		default:
			b.WriteByte('_')
		}
	}
	return b.String()
}
