// Package rootdev finds the root file system among the block devices of the
// machine and mounts it.
//
// A Ref is what root= names, Probe says what a device holds, a Finder is offered
// one device after the other and says which one is the root, and Mount mounts it.
// Everything that comes from a device or the command line is taken as hostile.
package rootdev

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrUnsupported says that root= has a form which exists but which this version cannot look for.
var ErrUnsupported = errors.New("not supported yet in this version; use /dev/NAME, UUID= or LABEL=")

// A Kind says by what a Ref names its device.
type Kind uint8

// The kinds of reference.
const (
	ByName  Kind = iota + 1 // a device name below /dev
	ByUUID                  // the UUID of a file system
	ByLabel                 // the label of a file system
)

// A Ref is the value of root=, read. The zero Ref names nothing.
type Ref struct {
	Kind  Kind
	Value string // for ByName as in Device.Name, for ByUUID in lower case, for ByLabel as it is on the disk
}

// String returns the form that ParseRef reads, made printable.
func (r Ref) String() string {
	switch r.Kind {
	case ByName:
		return "/dev/" + r.Value
	case ByUUID:
		return "UUID=" + r.Value
	case ByLabel:
		return "LABEL=" + printable(r.Value)
	}
	return "(none)"
}

// ParseRef reads the value of root=: "/dev/NAME" with a name of the kernel's, "UUID=…", "LABEL=…" (the
// value may stand in quotes), or the links /dev/disk/by-uuid/… and /dev/disk/by-label/… that stand for
// the same. Forms known to other tools give an error that is ErrUnsupported.
func ParseRef(s string) (Ref, error) {
	ref, err := parseRef(s)
	if err != nil {
		return Ref{}, fmt.Errorf("root=%s: %w", printable(s), err)
	}
	return ref, nil
}

func parseRef(s string) (Ref, error) {
	s = unquote(s)
	if path, ok := strings.CutPrefix(s, "/dev/"); ok {
		return parsePath(path)
	}
	switch tag, value, _ := strings.Cut(s, "="); tag {
	case "UUID":
		return newUUID(unquote(value))
	case "LABEL":
		return newLabel(unquote(value))
	case "PARTUUID", "PARTLABEL", "ID", "PATH":
		return Ref{}, fmt.Errorf("a reference by %s is %w", tag, ErrUnsupported)
	}
	if s == "" {
		return Ref{}, errors.New("empty; use /dev/NAME, UUID= or LABEL=")
	}
	return Ref{}, fmt.Errorf("this form is %w", ErrUnsupported)
}

// parsePath reads what follows "/dev/".
func parsePath(path string) (Ref, error) {
	dir, link, ok := strings.Cut(strings.TrimPrefix(path, "disk/"), "/")
	if !ok || !strings.HasPrefix(path, "disk/") {
		dir = ""
	}
	switch {
	case dir == "by-uuid":
		return newUUID(decodeLink(link))
	case dir == "by-label":
		return newLabel(decodeLink(link))
	case strings.HasPrefix(path, "disk/"), strings.HasPrefix(path, "mapper/"), strings.HasPrefix(path, "md/"):
		return Ref{}, fmt.Errorf("a link of udev is %w", ErrUnsupported)
	}
	if err := checkName(path); err != nil {
		return Ref{}, err
	}
	return Ref{ByName, path}, nil
}

// newUUID takes what blkid prints as UUID for any file system: not only the 36 characters of RFC 9562 but
// also "ABCD-1234" of FAT and the dates of ISO 9660.
func newUUID(value string) (Ref, error) {
	bad := func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}
	if value == "" || len(value) > 64 || strings.ContainsFunc(value, bad) {
		return Ref{}, fmt.Errorf("%s is no UUID", printable(value))
	}
	return Ref{ByUUID, strings.ToLower(value)}, nil
}

// newLabel takes any bytes that can be on a disk: a label ends at its first NUL.
func newLabel(value string) (Ref, error) {
	if value == "" || len(value) > 1024 || strings.Contains(value, "\x00") {
		return Ref{}, errors.New("a label is 1 to 1024 bytes without NUL")
	}
	return Ref{ByLabel, value}, nil
}

// unquote takes off one pair of quotes, which the kernel leaves alone inside a value.
func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// decodeLink undoes the \xNN by which udev encodes a value in the name of a link. What is no such
// sequence stays.
func decodeLink(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if strings.HasPrefix(s[i:], `\x`) && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// checkName refuses what is no device name of the kernel's below /dev, such as "vda1" or "cciss/c0d0".
// A name is joined to /dev and opened, so it must not lead out of there.
func checkName(name string) error {
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f }
	if name == "" || len(name) > 255 || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("%s is no device name", printable(name))
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("%s is no device name", printable(name))
		}
	}
	return nil
}

// printable returns s as it is if a log line can hold it as one word, else quoted.
func printable(s string) string {
	if q := strconv.Quote(s); s == "" || len(q) != len(s)+2 || strings.Contains(s, " ") {
		return q
	}
	return s
}
