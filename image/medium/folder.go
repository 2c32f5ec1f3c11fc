package medium

import (
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"unicode/utf16"
)

// Bounds of the tree of folders, which nothing for a firmware comes near.
const (
	maxFiles  = 20_000
	maxDepth  = 16
	maxFolder = 2 << 20  // bytes: 65,536 entries, as many as FAT allows
	maxTree   = 64 << 20 // bytes of all folders
)

// Entries of folders.
const (
	dirEntry   = 32
	attrVolume = 0x08
	attrFolder = 0x10
	attrLong   = 0x0f
	deleted    = 0xe5
)

// list returns all files by name.
func (v *volume) list() ([]File, error) {
	l := lister{volume: v, seen: map[uint32]bool{v.root: true}}
	root := io.NewSectionReader(v.r, v.rootAt, v.rootSize)
	if v.root != 0 {
		var err error
		if root, err = v.chain(v.root, -1, maxFolder); err != nil {
			return nil, err
		}
	}
	if err := l.folder(root, "", 0); err != nil {
		return nil, err
	}
	slices.SortFunc(l.files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return l.files, nil
}

type lister struct {
	*volume
	files []File
	seen  map[uint32]bool // first clusters of folders: a folder in itself has no end
	count int             // of entries, folders included
	bytes int64           // of folders
}

var errTree = errors.New("its EFI system partition has too many files to be one")

func (l *lister) folder(content io.Reader, name string, depth int) error {
	var long longName
	entry := make([]byte, dirEntry)
	for {
		if _, err := io.ReadFull(content, entry); err != nil || entry[0] == 0 {
			if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return err
		}
		if l.count++; l.count > maxFiles {
			return errTree
		}
		attributes := entry[11]
		switch {
		case entry[0] == deleted:
			long = longName{}
		case attributes&0x3f == attrLong:
			long.add(entry)
		default:
			if err := l.entry(entry, path.Join(name, long.or(entry)), depth); err != nil {
				return err
			}
			long = longName{}
		}
	}
}

// entry takes a file, or goes into a folder.
func (l *lister) entry(entry []byte, name string, depth int) error {
	le := binary.LittleEndian
	first := uint32(le.Uint16(entry[26:]))
	if l.bits == 32 {
		first |= uint32(le.Uint16(entry[20:])) << 16
	}
	switch {
	case entry[11]&attrVolume != 0 || entry[0] == '.':
		return nil
	case entry[11]&attrFolder == 0:
		l.files = append(l.files, File{name, int64(le.Uint32(entry[28:])), first})
		return nil
	case l.seen[first] || depth == maxDepth:
		return errors.New("a folder of its EFI system partition lies in itself: the file system is damaged")
	}
	l.seen[first] = true
	content, err := l.chain(first, -1, maxFolder)
	if err != nil {
		return err
	}
	if l.bytes += content.Size(); l.bytes > maxTree {
		return errTree
	}
	return l.folder(content, name, depth+1)
}

// A longName collects the entries of a long name, which come in front of the short one, the last part first.
type longName struct {
	units []uint16
	sum   byte // of the short name
	next  byte // number of the part that has to follow
}

func (n *longName) add(entry []byte) {
	const last = 0x40
	if order := entry[0]; order&last != 0 {
		*n = longName{sum: entry[13], next: order &^ last}
	} else if n.next == 0 || order != n.next || entry[13] != n.sum {
		*n = longName{}
		return
	}
	var units []uint16
	for _, i := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
		units = append(units, binary.LittleEndian.Uint16(entry[i:]))
	}
	n.units = append(units, n.units...)
	n.next--
}

// or returns the long name, if it is whole and belongs to the short one, else that.
func (n *longName) or(entry []byte) string {
	var sum byte
	for _, b := range entry[:11] {
		sum = sum>>1 | sum<<7
		sum += b
	}
	if len(n.units) > 0 && n.next == 0 && n.sum == sum {
		units := n.units
		if end := slices.Index(units, 0); end >= 0 {
			units = units[:end]
		}
		// A slash in a name would be another file's name.
		return strings.ReplaceAll(string(utf16.Decode(units)), "/", "_")
	}
	lower := func(field []byte, bit byte) string { // as Windows and Linux store names that are all lower case
		text := strings.TrimRight(string(field), " ")
		if entry[12]&bit != 0 {
			text = strings.ToLower(text)
		}
		return text
	}
	base, extension := lower(entry[:8], 0x08), lower(entry[8:11], 0x10)
	if extension != "" {
		base += "." + extension
	}
	return strings.ReplaceAll(base, "/", "_")
}
