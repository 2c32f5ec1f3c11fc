package inspect

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"hapax/image/archive"
)

// Bounds of a Tree. No initramfs comes near.
const (
	maxKept = 256 << 20 // bytes of content in memory
	maxHops = 40        // symbolic links on the way to one file, as in the kernel
)

// A File is a file of an image as it is when the kernel has unpacked all of it.
type File struct {
	archive.Header          // of the last entry with this name; Name is as it stands there
	Path           string   // clean, below the root, no element of it a link: "usr/lib/modules/6.1/kernel/a.ko"
	Content        *Content // of a regular file; all names of one file share it

	children int // files in a folder
}

// A Content is what a regular file holds.
type Content struct {
	Size int64
	Sum  [sha256.Size]byte // with Options.Sum
	Data []byte            // nil unless it was kept or loaded

	entry int // the number of the entry that it comes with
}

// A Tree is what the root file system holds when the kernel has unpacked an image: init/initramfs.c puts the archives on
// top of one another, follows links on the way and goes on after an entry that it cannot create.
type Tree struct {
	Source   *Source
	Formats  []archive.Compression
	Bytes    int64    // after decompression
	Entries  int      // of the archives
	Problems []string // entries that the kernel passes over, and why; at most 100
	Refused  []string // archives that the kernel cannot unpack, and why

	files  map[string]*File
	limits archive.Limits
	links  map[inode]*File // first names of files that have several
	kept   int64
	memory int64 // what kept may become
}

type inode struct {
	part   int
	number uint32
	device archive.Devno
}

// Options say what Read does besides listing.
type Options struct {
	Limits archive.Limits
	Sum    bool                               // take the SHA-256 of every content
	Keep   func(name string, size int64) bool // which contents to keep in memory; nil: none
	Spare  int64                              // keep others, too, while no more bytes than this are kept: Load is free then

	memory int64 // of all contents that are kept; 0: maxKept
}

// ErrMemory reports an image whose interesting files are too large to be kept in memory.
var ErrMemory = fmt.Errorf("more than %d MiB in files that would have to be kept in memory", maxKept>>20)

// Read reads the whole image.
func Read(s *Source, o Options) (*Tree, error) {
	t := &Tree{
		Source: s, files: map[string]*File{".": {Header: archive.Header{Mode: fs.ModeDir | 0o755}, Path: "."}},
		limits: o.Limits, links: map[inode]*File{}, memory: cmp.Or(o.memory, maxKept),
	}
	r := s.Reader(o.Limits)
	for {
		h, err := r.Next()
		if err == io.EOF { //nolint:errorlint // a wrapped io.EOF would be damage
			t.Formats, t.Bytes, t.Refused = r.Formats(), r.ContentBytes(), r.Unreadable()
			return t, nil
		}
		if err == nil {
			err = t.add(h, r, o)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
}

// add does with one entry what the kernel does.
func (t *Tree) add(h archive.Header, r io.Reader, o Options) error {
	entry := t.Entries
	t.Entries++
	name := path.Clean("/" + h.Name)
	if name == "/" {
		return nil
	}
	parent, ok := t.follow(path.Dir(name)[1:])
	if !ok || !parent.Mode.IsDir() {
		t.problem("%s: there is no folder %s for it", h.Name, path.Dir(name))
		return nil
	}
	f := &File{Header: h, Path: path.Join(parent.Path, path.Base(name))}
	old := t.files[f.Path]
	switch {
	case old == nil:
		parent.children++
	case old.Mode.IsDir() && h.Mode.IsDir():
		f.children = old.children
	case old.children > 0:
		t.problem("%s: there is a folder of that name, which is not empty", h.Name)
		return nil
	}
	t.files[f.Path] = f
	if !h.Mode.IsRegular() {
		return nil
	}
	return t.content(f, entry, r, o)
}

// content reads the content of f, or finds that it is another name of a file that is there.
func (t *Tree) content(f *File, entry int, r io.Reader, o Options) error {
	id := inode{f.Part, f.Inode, f.Device}
	if f.Links > 1 {
		if first := t.links[id]; first != nil {
			f.Content = first.Content
			if f.Size == 0 {
				return nil
			}
		} else {
			t.links[id] = f
		}
	}
	if f.Content == nil {
		f.Content = &Content{}
	}
	c := f.Content
	t.kept -= int64(len(c.Data))
	c.Size, c.entry, c.Data = f.Size, entry, nil
	if o.Keep != nil && o.Keep(f.Path, f.Size) || t.kept+f.Size <= o.Spare {
		if err := t.keep(c, r); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if !o.Sum {
		return nil
	}
	sum := sha256.New()
	if c.Data != nil {
		sum.Write(c.Data)
	} else if _, err := io.Copy(sum, r); err != nil {
		return err
	}
	sum.Sum(c.Sum[:0])
	return nil
}

// keep reads the content of c into memory.
func (t *Tree) keep(c *Content, r io.Reader) error {
	if t.kept += c.Size; t.kept > t.memory {
		return ErrMemory
	}
	// The memory grows with what is there, not with what the header says.
	data := bytes.NewBuffer(make([]byte, 0, min(c.Size, 1<<20)+bytes.MinRead))
	if _, err := data.ReadFrom(io.LimitReader(r, c.Size)); err != nil {
		return err
	}
	c.Data = data.Bytes()
	return nil
}

// Load reads the contents of more files into memory, in one pass that ends with the last of them.
func (t *Tree) Load(files ...*File) error {
	want := map[int]*Content{}
	last := 0
	for _, f := range files {
		if c := f.Content; c != nil && c.Data == nil && c.Size > 0 {
			want[c.entry] = c
			last = max(last, c.entry)
		}
	}
	if len(want) == 0 {
		return nil
	}
	r := t.Source.Reader(t.limits)
	for entry := 0; entry <= last; entry++ {
		_, err := r.Next()
		if c := want[entry]; c != nil && err == nil {
			err = t.keep(c, r)
		}
		if err != nil {
			if err == io.EOF { //nolint:errorlint // as in Read
				err = errors.New("the file changed while it was read")
			}
			return fmt.Errorf("%s: %w", t.Source.Name, err)
		}
	}
	return nil
}

func (t *Tree) problem(format string, args ...any) {
	if len(t.Problems) < 100 {
		t.Problems = append(t.Problems, fmt.Sprintf(format, args...))
	}
}

// Files returns every file of the tree but the root itself, sorted by path.
func (t *Tree) Files() []*File {
	names := slices.Sorted(maps.Keys(t.files))
	files := make([]*File, 0, len(names))
	for _, name := range names {
		if name != "." {
			files = append(files, t.files[name])
		}
	}
	return files
}

// Lookup returns the file of a name, which may be absolute, and follows links as the kernel would inside of the image.
func (t *Tree) Lookup(name string) (*File, bool) {
	return t.follow(strings.TrimLeft(name, "/"))
}

// Lstat is Lookup that does not follow a link at the end of the name.
func (t *Tree) Lstat(name string) (*File, bool) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	parent, ok := t.follow(path.Dir(name))
	if !ok {
		return nil, false
	}
	f, ok := t.files[path.Join(parent.Path, path.Base(name))]
	return f, ok
}

// follow walks from the root along name. The parts of a link are followed in the same way, so ".." behind one counts from
// where it leads to.
func (t *Tree) follow(name string) (*File, bool) {
	if f, ok := t.files[name]; ok && f.Mode.Type() != fs.ModeSymlink {
		return f, true // a key has no links in it
	}
	hops := 0
	at := t.files["."]
	rest := strings.Split(name, "/")
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		if !at.Mode.IsDir() {
			return nil, false
		}
		switch part {
		case "", ".":
			continue
		case "..":
			at = t.files[path.Dir(at.Path)] // of the root: "."
			continue
		}
		next, ok := t.files[path.Join(at.Path, part)]
		if !ok {
			return nil, false
		}
		if next.Mode.Type() != fs.ModeSymlink {
			at = next
			continue
		}
		if hops++; hops > maxHops {
			return nil, false
		}
		if strings.HasPrefix(next.Link, "/") {
			at = t.files["."]
		}
		rest = append(strings.Split(next.Link, "/"), rest...)
	}
	return at, at != nil
}
