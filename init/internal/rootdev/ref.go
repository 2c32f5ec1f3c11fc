// Package rootdev finds the root file system among the block devices of the
// machine and mounts it.
//
// A Ref is what root= names, Probe says what a device holds, a Finder is offered
// one device after the other and says which one is the root, Names and Links give
// devices their names below /dev/disk, and Mount mounts the root.
// Everything that comes from a device or the command line is taken as hostile.
package rootdev

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// ErrUnsupported says that root= has a form which exists but which this version cannot look for.
var ErrUnsupported = errors.New("not supported yet in this version; use /dev/NAME, UUID=, LABEL=, PARTUUID= or PARTLABEL=")

// A Kind says by what a Ref names its device.
type Kind uint8

// The kinds of reference.
const (
	ByName      Kind = iota + 1 // a device name below /dev
	ByUUID                      // the UUID of a file system
	ByLabel                     // the label of a file system
	ByPartUUID                  // the UUID of a partition, and an offset from its number
	ByPartLabel                 // the name of a partition
	ByDevno                     // major and minor number
	ByLink                      // a link below /dev that only the device's place, serial number or dm name gives
	ByGPTAuto                   // the root partition of the disk that was booted from
	ByVirtioFS                  // no device but the tag of a virtiofs share
	By9P                        // no device but the tag of a 9p share
)

// A Ref is the value of root=, read. The zero Ref names nothing.
type Ref struct {
	Kind    Kind
	Value   string // as in Device.Name, a UUID in lower case, a label as it is on the disk, a tag, a link below /dev
	Offset  int    // PARTNROFF: added to the number of the partition with that PARTUUID
	Devno   Devno  // for ByDevno
	Overlay bool   // overlay:REF, to be mounted read-only below a tmpfs
}

// OnDevice reports whether r names a block device, and not a share of the host.
func (r Ref) OnDevice() bool { return r.Kind >= ByName && r.Kind <= ByGPTAuto }

// String returns the form that ParseRoot reads, made printable.
func (r Ref) String() string {
	value := printable(r.Value)
	s := "(none)"
	switch r.Kind {
	case ByName, ByLink:
		s = "/dev/" + value
	case ByUUID:
		s = "UUID=" + value
	case ByLabel:
		s = "LABEL=" + value
	case ByPartUUID:
		if s = "PARTUUID=" + value; r.Offset != 0 {
			s += "/PARTNROFF=" + strconv.Itoa(r.Offset)
		}
	case ByPartLabel:
		s = "PARTLABEL=" + value
	case ByDevno:
		s = fmt.Sprintf("%d:%d", r.Devno.Major, r.Devno.Minor)
	case ByGPTAuto:
		s = "gpt-auto"
	case ByVirtioFS:
		s = "virtiofs:" + value
	case By9P:
		s = "9p:" + value
	}
	if r.Overlay {
		s = "overlay:" + s
	}
	return s
}

// ParseRoot reads the value of root=: "/dev/NAME" with a name of the kernel's, "UUID=…", "LABEL=…",
// "PARTUUID=…" with or without "/PARTNROFF=N", "PARTLABEL=…" (a value may stand in quotes), the links
// /dev/disk/by-… and /dev/mapper/NAME, "MAJOR:MINOR", the same as hexadecimal digits, "gpt-auto", "virtiofs:TAG", "9p:TAG", and
// "overlay:" before any of those that name a device. Forms known to other tools give an error that is
// ErrUnsupported.
func ParseRoot(s string) (Ref, error) {
	lower, overlay := strings.CutPrefix(unquote(s), "overlay:")
	ref := Ref{Overlay: overlay}
	err := ref.parse(unquote(lower))
	if err == nil && overlay && !ref.OnDevice() {
		err = errors.New("overlay: takes a block device")
	}
	if err != nil {
		return Ref{}, fmt.Errorf("root=%s: %w", printable(s), err)
	}
	return ref, nil
}

// ParseResume reads the value of resume=: one of the forms of ParseRoot that name a device by itself.
func ParseResume(s string) (Ref, error) {
	var ref Ref
	err := ref.parse(unquote(s))
	if err == nil && (!ref.OnDevice() || ref.Kind == ByGPTAuto) {
		err = errors.New("want a device, as UUID= or /dev/NAME")
	}
	if err != nil {
		return Ref{}, fmt.Errorf("resume=%s: %w", printable(s), err)
	}
	return ref, nil
}

// parse sets r to what s says. After an error r may be anything.
func (r *Ref) parse(s string) error {
	if path, ok := strings.CutPrefix(s, "/dev/"); ok {
		return r.parsePath(path)
	}
	if scheme, tag, ok := strings.Cut(s, ":"); ok && (scheme == "virtiofs" || scheme == "9p") {
		r.Kind = ByVirtioFS
		if scheme == "9p" {
			r.Kind = By9P
		}
		r.Value = tag
		if tag == "" || len(tag) > 255 || strings.ContainsAny(tag, "\x00,") { // a ',' would begin an option of mount(2)
			return errors.New("a tag is 1 to 255 bytes without ',' and NUL")
		}
		return nil
	}
	tag, value, _ := strings.Cut(s, "=")
	value = unquote(value)
	switch tag {
	case "UUID":
		return r.setUUID(ByUUID, value)
	case "LABEL":
		return r.setLabel(ByLabel, value)
	case "PARTUUID":
		return r.setPartUUID(value)
	case "PARTLABEL":
		return r.setLabel(ByPartLabel, value)
	case "ID", "PATH":
		return fmt.Errorf("a reference by %s is %w", tag, ErrUnsupported)
	case "gpt-auto":
		r.Kind = ByGPTAuto
		return nil
	case "":
		return errors.New("empty; use /dev/NAME, UUID= or LABEL=")
	}
	if !r.setDevno(s) {
		return fmt.Errorf("this form is %w", ErrUnsupported)
	}
	return nil
}

// parsePath reads what follows "/dev/".
func (r *Ref) parsePath(name string) error {
	r.Kind, r.Value = ByName, name
	folder, link, _ := strings.Cut(name, "/")
	dir, value, _ := strings.Cut(link, "/")
	switch {
	case folder == "mapper":
		return r.setLink(name)
	case folder == "md":
		return fmt.Errorf("a link of udev is %w", ErrUnsupported)
	case folder != "disk" || link == "":
		return checkName(name)
	}
	switch dir {
	case "by-uuid":
		return r.setUUID(ByUUID, decodeLink(value))
	case "by-label":
		return r.setLabel(ByLabel, decodeLink(value))
	case "by-partuuid":
		return r.setUUID(ByPartUUID, decodeLink(value))
	case "by-partlabel":
		return r.setLabel(ByPartLabel, decodeLink(value))
	case "by-id", "by-path", "by-diskseq":
		return r.setLink("disk/" + dir + "/" + value)
	}
	return fmt.Errorf("this link of udev is %w", ErrUnsupported)
}

// setLink takes the name of a link below /dev that only the device's own name, place or number gives.
func (r *Ref) setLink(name string) error {
	r.Kind, r.Value = ByLink, name
	if len(name) > 1024 || !fs.ValidPath(name) || strings.Contains(name, "\x00") {
		return fmt.Errorf("%s is no link below /dev", printable(name))
	}
	return nil
}

// setDevno reads "8:1", or "801" and "0x801" as the kernel and LILO do: in hexadecimal, with the minor
// number around the major one (linux/kdev_t.h, new_decode_dev).
func (r *Ref) setDevno(s string) bool {
	r.Kind = ByDevno
	if major, minor, ok := strings.Cut(s, ":"); ok {
		a, err1 := strconv.ParseUint(major, 10, 12)
		b, err2 := strconv.ParseUint(minor, 10, 20)
		r.Devno = Devno{uint32(a), uint32(b)}
		return err1 == nil && err2 == nil
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 32)
	r.Devno = Devno{uint32(n) >> 8 & 0xfff, uint32(n)&0xff | uint32(n)>>12&0xfff00}
	return err == nil
}

// setUUID takes what blkid prints as UUID for any file system: not only the 36 characters of RFC 9562 but
// also "ABCD-1234" of FAT and the dates of ISO 9660.
func (r *Ref) setUUID(kind Kind, value string) error {
	r.Kind, r.Value = kind, strings.ToLower(value)
	bad := func(c rune) bool { return c != '-' && !digit(c) && !letter(c) }
	if value == "" || len(value) > 64 || strings.ContainsFunc(value, bad) {
		return fmt.Errorf("%s is no UUID", printable(value))
	}
	return nil
}

// setPartUUID takes a PARTUUID with what may follow it.
func (r *Ref) setPartUUID(value string) error {
	uuid, rest, more := strings.Cut(value, "/")
	if err := r.setUUID(ByPartUUID, uuid); err != nil || !more {
		return err
	}
	digits, ok := strings.CutPrefix(rest, "PARTNROFF=")
	n, err := strconv.ParseInt(digits, 10, 16)
	if !ok || err != nil {
		return fmt.Errorf("%s after a PARTUUID is not PARTNROFF= and a number", printable(rest))
	}
	r.Offset = int(n)
	return nil
}

// setLabel takes any bytes that can be on a disk: a label ends at its first NUL.
func (r *Ref) setLabel(kind Kind, value string) error {
	r.Kind, r.Value = kind, value
	if value == "" || len(value) > 1024 || strings.Contains(value, "\x00") {
		return errors.New("a label is 1 to 1024 bytes without NUL")
	}
	return nil
}

// unquote takes off one pair of quotes, which the kernel leaves alone inside a value.
func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
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
