package archive

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

// Limits bound what a Reader takes from an image before it gives up. Zero fields stand for the defaults.
type Limits struct {
	Content int64 // bytes after decompression, of all archives together; default 4 GiB
	Entries int   // default 250,000
	Names   int64 // bytes of all names and targets of links; default 64 MiB
}

// bufferSize is how much of a file, and of what it unpacks to, is read at once.
const bufferSize = 64 << 10

// ErrTooLarge reports an image that exceeds the Limits.
var ErrTooLarge = errors.New("more content than the limit allows")

// A Header describes one file of an archive that was read. Nothing in it was checked against anything: Name may be
// absolute, hold "..", repeat or be empty.
type Header struct {
	Name     string
	Mode     fs.FileMode
	UID, GID uint32
	Inode    uint32 // with Device and more than one of Links, files of one archive with the same number are one file
	Device   Devno
	Links    uint32
	ModTime  time.Time
	Size     int64  // 0 for all but regular files in sane archives
	Link     string // target of a symbolic link
	Dev      Devno  // device nodes: which device
	Part     int    // 0 for files of the first archive, 1 for those of a second one joined to it, ...
}

// A Reader lists the files of an initramfs image: any number of newc archives one after the other, with zeros between
// them, plain or compressed, as the kernel takes them.
//
// It allocates no more than a name's length on the word of a header, so it can be given hostile files.
type Reader struct {
	limits  Limits
	outer   *bufio.Reader
	in      *bufio.Reader // outer, or what a decompressor makes of it
	closer  io.Closer     // the decompressor
	format  Compression   // of in
	formats []Compression
	refused []string // for Unreadable
	part    int      // archives ended so far
	inside  bool
	entries int
	names   int64
	read    int64 // bytes after decompression
	left    int64 // of the current file
	padding int64 // after it
	err     error
}

// NewReader returns a Reader of the image that r gives.
func NewReader(r io.Reader, limits Limits) *Reader {
	if limits.Content == 0 {
		limits.Content = 4 << 30
	}
	if limits.Entries == 0 {
		limits.Entries = 250_000
	}
	if limits.Names == 0 {
		limits.Names = 64 << 20
	}
	outer := bufio.NewReaderSize(r, bufferSize)
	return &Reader{limits: limits, outer: outer, in: outer, format: None}
}

// Next skips what is left of the current file and returns the header of the next, or io.EOF after the last one.
// Every other error is final and names the part of the image.
func (r *Reader) Next() (Header, error) {
	if r.err != nil {
		return Header{}, r.err
	}
	h, err := r.next()
	if err != nil {
		r.fail(err)
	}
	return h, r.err
}

// Read reads from the current file, io.EOF at its end.
func (r *Reader) Read(p []byte) (int, error) {
	switch {
	case r.err != nil && !errors.Is(r.err, io.EOF):
		return 0, r.err
	case r.left == 0:
		return 0, io.EOF
	}
	n, err := r.in.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if err == nil {
		err = r.count(int64(n))
	}
	if err != nil {
		r.fail(truncated(err))
		return n, r.err
	}
	return n, nil
}

// Formats returns how the archives read so far are compressed, each change once.
func (r *Reader) Formats() []Compression { return r.formats }

// ContentBytes returns how many bytes were read so far, counted after decompression.
func (r *Reader) ContentBytes() int64 { return r.read }

// Unreadable returns what of the archives read so far the kernel cannot unpack, though this package can.
func (r *Reader) Unreadable() []string { return r.refused }

// checkXZ looks at the kind of check in the header of an xz stream, which begins with b. The kernel refuses all but the first two
// (dec_stream_header in lib/xz/xz_dec_stream.c).
func (r *Reader) checkXZ(b []byte) {
	const kind = 7 // where it stands: behind the magic and a byte of flags that are 0
	if len(b) <= kind || b[kind]&0xf <= 1 {
		return
	}
	name := fmt.Sprint("check ", b[kind]&0xf)
	switch b[kind] & 0xf {
	case 4:
		name = "CRC64"
	case 10:
		name = "SHA-256"
	}
	r.refused = append(r.refused, fmt.Sprintf("archive %d is xz with %s, which the kernel cannot unpack: pack it with xz --check=crc32", r.part+1, name))
}

func (r *Reader) fail(err error) {
	if !errors.Is(err, ErrTooLarge) && err != io.EOF { //nolint:errorlint // a wrapped io.EOF is damage
		err = fmt.Errorf("archive %d (%s), byte %d: %w", r.part+1, r.format, r.read, err)
	}
	r.err = err
}

func (r *Reader) next() (Header, error) {
	if r.inside {
		if err := r.discard(r.left + r.padding); err != nil {
			return Header{}, truncated(err)
		}
		r.left, r.padding = 0, 0
	}
	for {
		if !r.inside {
			if err := r.begin(); err != nil {
				return Header{}, err
			}
		}
		h, err := r.header()
		if err != nil {
			return Header{}, truncated(err)
		}
		if h.Name != trailer {
			r.entries++
			if r.entries > r.limits.Entries {
				return Header{}, fmt.Errorf("%w: %d files", ErrTooLarge, r.entries)
			}
			if r.names += int64(len(h.Name) + len(h.Link)); r.names > r.limits.Names {
				return Header{}, fmt.Errorf("%w: %d bytes in names", ErrTooLarge, r.names)
			}
			return h, nil
		}
		if err := r.discard(r.left + r.padding); err != nil { // nothing, but for a file that was made up
			return Header{}, truncated(err)
		}
		r.left, r.padding, r.inside = 0, 0, false
		r.part++
	}
}

// begin finds the start of the next archive and leaves r.in there, or returns io.EOF when there is none.
func (r *Reader) begin() error {
	for {
		b, err := r.peekNonzero()
		switch {
		case errors.Is(err, io.EOF) && r.in != r.outer:
			if err := r.closer.Close(); err != nil {
				return err
			}
			r.in, r.format = r.outer, None
			continue
		case errors.Is(err, io.EOF) && r.part == 0:
			return errors.New("no archive in it: not an initramfs")
		case errors.Is(err, io.EOF):
			return io.EOF
		case err != nil:
			return truncated(err)
		}
		format, known := detect(b)
		switch {
		case !known:
			return fmt.Errorf("begins with %q: neither a newc archive nor compressed data", b)
		case format == None:
			r.inside = true
			r.note(None)
			return nil
		case r.in != r.outer:
			return fmt.Errorf("%s inside of %s: the kernel unpacks once", format, r.format)
		}
		r.format = format
		if format == XZ {
			r.checkXZ(b)
		}
		d, err := newDecompressor(r.outer, format)
		if err != nil {
			return truncated(err)
		}
		r.in, r.closer = bufio.NewReaderSize(d, bufferSize), d
		r.note(format)
	}
}

// note appends format to the list for Formats. A plain archive inside of a compressed part is no change.
func (r *Reader) note(format Compression) {
	if format == None && r.in != r.outer {
		return
	}
	if n := len(r.formats); n == 0 || r.formats[n-1] != format {
		r.formats = append(r.formats, format)
	}
}

// peekNonzero skips zero bytes, which the kernel allows between archives, and returns what follows without reading it.
func (r *Reader) peekNonzero() ([]byte, error) {
	for {
		if _, err := r.in.Peek(1); err != nil {
			return nil, err
		}
		b, _ := r.in.Peek(r.in.Buffered())
		zeros := len(b) - len(bytes.TrimLeft(b, "\x00"))
		if err := r.discard(int64(zeros)); err != nil {
			return nil, err
		}
		if zeros < len(b) {
			b, _ = r.in.Peek(8)
			return b, nil
		}
	}
}

// discard skips n bytes of the current part, or as many as the limit leaves and one more.
func (r *Reader) discard(n int64) error {
	n = min(n, r.limits.Content-r.read+1)
	skipped, err := r.in.Discard(int(n))
	return errors.Join(r.count(int64(skipped)), err)
}

// count adds n bytes to what was read.
func (r *Reader) count(n int64) error {
	r.read += n
	if r.read > r.limits.Content {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, r.limits.Content)
	}
	return nil
}

// Fields of a newc header behind its magic, eight hexadecimal digits each, in this order.
const (
	fieldInode = iota
	fieldMode
	fieldUID
	fieldGID
	fieldLinks
	fieldTime
	fieldSize
	fieldMajor
	fieldMinor
	fieldRMajor
	fieldRMinor
	fieldNameSize
	fieldCheck
	fieldCount
)

const headerSize = 6 + 8*fieldCount

// header reads a header, the name and, of a symbolic link, the target.
func (r *Reader) header() (Header, error) {
	raw, err := r.bytes(headerSize)
	if err != nil {
		return Header{}, err
	}
	if magic := string(raw[:6]); magic != "070701" && magic != "070702" {
		return Header{}, fmt.Errorf("a header begins with %q, not with 070701", magic)
	}
	var field [fieldCount]uint32
	for i := range field {
		var b [4]byte
		digits := raw[6+8*i:][:8]
		if _, err := hex.Decode(b[:], digits); err != nil {
			return Header{}, fmt.Errorf("header field %q is no hexadecimal number", digits)
		}
		field[i] = uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	}
	nameSize := int64(field[fieldNameSize])
	if nameSize < 1 || nameSize > maxName+1 {
		return Header{}, fmt.Errorf("a name of %d bytes: 1 to %d are possible", nameSize, maxName+1)
	}
	name, err := r.bytes(nameSize + pad4(headerSize+nameSize))
	if err != nil {
		return Header{}, err
	}
	text, _, ended := strings.Cut(string(name[:nameSize]), "\x00")
	if !ended {
		return Header{}, fmt.Errorf("the name %.40q has no end", text)
	}
	h := Header{
		Name: text, Mode: goMode(field[fieldMode]), UID: field[fieldUID], GID: field[fieldGID],
		Inode: field[fieldInode], Device: Devno{field[fieldMajor], field[fieldMinor]}, Links: field[fieldLinks],
		ModTime: time.Unix(int64(field[fieldTime]), 0),
		Size:    int64(field[fieldSize]), Dev: Devno{field[fieldRMajor], field[fieldRMinor]}, Part: r.part,
	}
	if h.Mode.Type() == fs.ModeSymlink && h.Name != trailer {
		return r.target(h)
	}
	r.left, r.padding = h.Size, pad4(h.Size)
	return h, nil
}

// target reads the content of a symbolic link into its header.
func (r *Reader) target(h Header) (Header, error) {
	if h.Size > maxName {
		return h, fmt.Errorf("%s: a link target of %d bytes: at most %d are possible", h.Name, h.Size, maxName)
	}
	link, err := r.bytes(h.Size + pad4(h.Size))
	if err != nil {
		return h, err
	}
	h.Link, h.Size = string(link[:h.Size]), 0
	return h, nil
}

// bytes reads n bytes of the current part. Its callers keep n below two pages.
func (r *Reader) bytes(n int64) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(r.in, b); err != nil {
		return nil, err
	}
	return b, r.count(n)
}

// pad4 returns how many bytes are missing to a multiple of four.
func pad4(n int64) int64 { return -n & 3 }
