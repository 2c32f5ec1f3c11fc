package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/cavaliergopher/cpio"
	ucpio "github.com/u-root/u-root/pkg/cpio"
)

// Write writes one newc archive of entries to w, in the order given and ended by a trailer. Each gets mtime, the owner
// root and the next inode number. Names must be unique: see Tree. It returns how many bytes were written.
//
// The names of one file, Entry.Hard, share their inode number; the content comes with the last of them, as cpio(5) has it.
//
// Records are made by cavaliergopher/cpio, but for device nodes: it has no field for the device number, so they are
// made by u-root's pkg/cpio on the same stream.
func Write(w io.Writer, entries []Entry, mtime time.Time) (int64, error) {
	stamp := mtime.Unix()
	if stamp < 0 || stamp > maxSize {
		return 0, fmt.Errorf("time %v does not fit into newc (1970 to 2106)", mtime)
	}
	counted := &countingWriter{w: w}
	files, err := linked(entries)
	if err != nil {
		return 0, err
	}
	n := &newc{split: splitter(w), records: cpio.NewWriter(counted), nodes: ucpio.Newc.Writer(counted), mtime: time.Unix(stamp, 0), files: files}
	for _, e := range entries {
		if err := n.add(e); err != nil {
			return counted.n, err
		}
	}
	if err := n.records.Close(); err != nil {
		return counted.n, fmt.Errorf("write trailer: %w", err)
	}
	return counted.n, nil
}

// A Splitter is a compressor that wants to know where a file begins and ends that is packed already. It may be behind another
// writer, which then is one, too.
type Splitter interface{ Split() error }

// splitter returns the method of w, or one that does nothing.
func splitter(w io.Writer) func() error {
	if s, ok := w.(Splitter); ok {
		return s.Split
	}
	return func() error { return nil }
}

// A linkedFile is a regular file with several names.
type linkedFile struct {
	content Entry // the one that the others are links to
	names   int
	left    int   // names that are still to be written
	inode   int64 // of the first that was written
}

// linked returns the files of entries that have more than one name, by each of these.
func linked(entries []Entry) (map[string]*linkedFile, error) {
	files := map[string]*linkedFile{}
	for _, e := range entries {
		if e.Hard != "" {
			files[e.Hard] = &linkedFile{}
		}
	}
	if len(files) == 0 {
		return nil, nil
	}
	for _, e := range entries {
		if f := files[e.Name]; f != nil && e.Hard == "" && e.Mode.IsRegular() {
			f.content, f.names, f.left = e, 1, 1
		}
	}
	for _, e := range entries {
		if e.Hard == "" {
			continue
		}
		f := files[e.Hard]
		if f.names == 0 {
			return nil, fmt.Errorf("%s is a hard link to %s, which is no file of the image", e.Name, e.Hard)
		}
		if e.Mode != f.content.Mode {
			return nil, fmt.Errorf("%s has the mode %v, but %s, the same file, has %v", e.Name, e.Mode, e.Hard, f.content.Mode)
		}
		f.names, f.left, files[e.Name] = f.names+1, f.left+1, f
	}
	return files, nil
}

// Size returns how many bytes Write writes for entries.
func Size(entries []Entry) int64 {
	size := recordSize(trailer, 0)
	for _, e := range entries {
		size += recordSize(e.Name, e.Size+int64(len(e.Link))) // an entry has one of them at most
	}
	return size
}

func recordSize(name string, content int64) int64 {
	head := headerSize + int64(len(name)) + 1
	return head + pad4(head) + content + pad4(content)
}

// newc is the strict wrapper around the two record writers. It never lets the library choose: inode, link count and type
// are always set, and Checksum never is (a single use would switch the magic of every later archive of this process).
type newc struct {
	records *cpio.Writer
	nodes   ucpio.RecordWriter
	mtime   time.Time
	inode   int64
	files   map[string]*linkedFile // those with several names
	split   func() error           // tells the compressor that what follows is of another kind
}

func (n *newc) add(e Entry) error {
	if err := e.Validate(); err != nil {
		return err
	}
	n.inode++
	var err error
	if e.Mode.Type()&fs.ModeDevice != 0 {
		err = n.addNode(e)
	} else {
		err = n.addRecord(e)
	}
	if err != nil {
		return fmt.Errorf("add %s: %w", e.Name, err)
	}
	return nil
}

func (n *newc) addNode(e Entry) error {
	// The padding of the record before must be out before the other writer takes over.
	if err := n.records.Flush(); err != nil {
		return err
	}
	return n.nodes.WriteRecord(ucpio.Record{Info: ucpio.Info{
		Ino: uint64(n.inode), Mode: uint64(unixMode(e.Mode)), NLink: 1, MTime: uint64(n.mtime.Unix()),
		Rmajor: uint64(e.Dev.Major), Rminor: uint64(e.Dev.Minor), Name: e.Name,
	}})
}

func (n *newc) addRecord(e Entry) error {
	header := &cpio.Header{
		Name: e.Name, Mode: cpio.FileMode(unixMode(e.Mode)), Inode: n.inode, Links: 1, ModTime: n.mtime,
	}
	switch e.Mode.Type() {
	case fs.ModeDir:
		header.Links = 2
	case fs.ModeSymlink:
		header.Size = int64(len(e.Link))
	default:
		e = n.name(e, header)
		header.Size = e.Size
	}
	if err := n.records.WriteHeader(header); err != nil {
		return err
	}
	switch {
	case e.Mode.Type() == fs.ModeSymlink:
		_, err := io.WriteString(n.records, e.Link)
		return err
	case e.Mode.IsRegular() && e.Open != nil:
		return n.copyContent(e)
	case e.Mode.IsRegular() && e.Size > 0:
		return errors.New("content without a way to open it")
	}
	return nil
}

// name fills in what a header says about the other names of a file, and returns the entry whose content goes with this one.
func (n *newc) name(e Entry, header *cpio.Header) Entry {
	file := n.files[e.Name]
	if file == nil {
		return e
	}
	if file.inode == 0 {
		file.inode = header.Inode
	}
	header.Inode, header.Links = file.inode, file.names
	file.left--
	if file.left > 0 {
		return Entry{Name: e.Name, Mode: e.Mode}
	}
	return file.content
}

// copyContent copies exactly e.Size bytes and makes sure that there are no more.
func (n *newc) copyContent(e Entry) (err error) {
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := n.splitFor(e); err != nil {
		return err
	}
	copied, err := io.Copy(n.records, io.LimitReader(r, e.Size))
	if err := errors.Join(err, n.splitFor(e)); err != nil {
		return err
	}
	if extra, _ := io.ReadFull(r, make([]byte, 1)); copied != e.Size || extra != 0 {
		return fmt.Errorf("%w: it had %d bytes", ErrChanged, e.Size)
	}
	return nil
}

// splitFor tells the compressor that a file which is packed begins or ends here.
func (n *newc) splitFor(e Entry) error {
	if !isPacked(e) {
		return nil
	}
	return n.split()
}

// isPacked reports whether a file is compressed itself, and large enough to say so to the compressor of the archive.
func isPacked(e Entry) bool {
	const worthwhile = 2048
	return e.Size >= worthwhile && slices.Contains([]string{".xz", ".zst", ".gz"}, path.Ext(e.Name))
}

// A countingWriter counts what went through to w.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
