package modfile

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

const (
	maxInfo  = 64 << 20 // how far into a module .modinfo is looked for
	infoStep = 32 << 10 // what is unpacked before the next look
)

// Info returns the strings of a module file's .modinfo section, "license=GPL", in their order; none for a file that has no
// such section. It unpacks the file only as far as that.
//
// What tells where the section lies stands at the end of an ELF file, and to unpack a whole tree of modules for that takes
// longer than all the rest of a build. So the section is recognised by what it holds: strings key=value, each ended by a
// NUL and without gaps, with vermagic, which every module has, among them. TestInfoLikeModinfo compares that with modinfo(8).
func Info(file string) ([]string, error) {
	r, err := Open(file)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	info, err := findInfo(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return info, nil
}

// ReadInfo is Info for the content of a module file, packed or plain.
func ReadInfo(r io.Reader) ([]string, error) {
	plain, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	return findInfo(plain)
}

// findInfo looks for the section in the plain content of a module.
func findInfo(r io.Reader) ([]string, error) {
	var data []byte
	mark := []byte("\x00vermagic=")
	searched := 0
	for {
		data = growTo(data, len(data)+infoStep)
		n, ended, err := readSome(r, data[len(data):len(data)+infoStep])
		data = data[:len(data)+n]
		if err != nil {
			return nil, err
		}
		for {
			i := bytes.Index(data[searched:], mark)
			if i < 0 {
				searched = max(0, len(data)-len(mark))
				break
			}
			begin := sectionBegin(data, searched+i+1)
			strings, whole := sectionStrings(data[begin:])
			if !whole && !ended {
				break // the next piece has the rest
			}
			if len(strings) > 1 { // "vermagic=" alone is a word of some text
				return strings, nil
			}
			searched += i + len(mark)
		}
		if ended {
			return nil, nil
		}
		if len(data) > maxInfo {
			return nil, fmt.Errorf("no .modinfo in its first %d MiB", maxInfo>>20)
		}
	}
}

// readSome fills p. Unlike io.ReadFull it can tell the end of a file from a packed file that is cut short, which the
// reader itself reports as io.ErrUnexpectedEOF.
func readSome(r io.Reader, p []byte) (n int, ended bool, err error) {
	for n < len(p) {
		more, err := r.Read(p[n:])
		n += more
		if err == io.EOF { //nolint:errorlint // a wrapped io.EOF would be damage
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// growTo returns data with room for n bytes.
func growTo(data []byte, n int) []byte {
	if n <= cap(data) {
		return data
	}
	return append(make([]byte, 0, max(n, 2*cap(data))), data...)
}

// sectionBegin returns where the run of strings begins that the one at i belongs to. What lies before the section need not
// end with a NUL, and may end with a letter: "xlicense=GPL" is the first string with the last byte of something else.
func sectionBegin(data []byte, i int) int {
	for i > 0 {
		end := i - 1 // the NUL of the string before
		start := bytes.LastIndexByte(data[:end], 0) + 1
		known := knownKey(data[start:end])
		switch {
		case known > 0:
			return start + known
		case known < 0 && !isPair(data[start:end]):
			return i
		}
		i = start
	}
	return i
}

// knownKey returns where in b, which ends with KEY=VALUE, a key begins that the kernel's own macros write; a negative number
// if it has none.
func knownKey(b []byte) int {
	best := -1
	for _, known := range []string{ // those of source files, which come first
		"alias=", "author=", "description=", "file=", "firmware=", "import_ns=", "license=", "parm=", "parmtype=", "softdep=",
		"version=", "weakdep=",
	} {
		if bytes.HasPrefix(b, []byte(known)) {
			return 0
		}
		if !isPair(b) || bytes.Contains(b[:bytes.IndexByte(b, '=')+1], []byte(known)) {
			best = max(best, bytes.LastIndex(b, []byte(known)))
		}
	}
	for _, known := range []string{ // those of modpost
		"depends=", "intree=", "livepatch=", "name=", "retpoline=", "scmversion=", "srcversion=", "staging=", "test=", "vermagic=",
	} {
		if bytes.HasPrefix(b, []byte(known)) {
			return 0
		}
	}
	return best
}

// sectionStrings returns the strings at the start of data, and whether the last one is known to be the last.
func sectionStrings(data []byte) (found []string, whole bool) {
	for {
		end := bytes.IndexByte(data, 0)
		if end < 0 {
			return found, false
		}
		if !isPair(data[:end]) {
			return found, true
		}
		found = append(found, string(data[:end]))
		data = data[end+1:]
	}
}

// isPair reports whether b is KEY=VALUE with a key as the kernel's MODULE_INFO makes them, "parmtype" or "alias". A value
// may be any text, as that of a description.
func isPair(b []byte) bool {
	key, _, ok := bytes.Cut(b, []byte("="))
	if !ok || len(key) == 0 || len(key) > 64 {
		return false
	}
	return !bytes.ContainsFunc(key, func(r rune) bool { return r >= 0x80 || !isKeyByte(byte(r)) })
}

func isKeyByte(c byte) bool {
	return c == '_' || c == '.' || c == '-' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z'
}

// Values returns the values of one key, in their order.
func Values(info []string, key string) []string {
	var values []string
	for _, s := range info {
		if value, ok := strings.CutPrefix(s, key+"="); ok {
			values = append(values, value)
		}
	}
	return values
}
