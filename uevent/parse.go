package uevent

import (
	"path"
	"strconv"
	"strings"
)

// maxQuoted bounds how much of a refused message a SyntaxError repeats.
const maxQuoted = 64

// A SyntaxError tells why a datagram is not a kernel uevent.
type SyntaxError struct {
	Reason string
	Start  string // the first bytes of the message, at most 64
}

func (e *SyntaxError) Error() string {
	return "uevent: message " + strconv.Quote(e.Start) + ": " + e.Reason
}

// Parse decodes one datagram as the kernel lays it out in lib/kobject_uevent.c:
// "action@devpath\x00" and then KEY=VALUE fields, each ended by a NUL.
// It returns a *SyntaxError for anything else, the messages of udevd to libudev included.
//
// The first '@' splits the header, so a devpath may contain more of them (/devices/platform/soc@0).
// The devpath must be absolute and clean: no empty, "." or ".." element can lead out of /sys.
// Action and DevPath come from the header, Subsystem from the first SUBSYSTEM field, Seqnum from the
// last SEQNUM field, because that is the one which the kernel appended, even to a message that a
// process injected. Fields without '=' are passed over.
func Parse(msg []byte) (Event, error) {
	s := string(msg)
	header, fields, terminated := strings.Cut(s, "\x00")
	action, devpath, split := strings.Cut(header, "@")
	switch {
	case header == "libudev":
		return refuse(s, "from udevd, not from the kernel")
	case !terminated || s[len(s)-1] != 0:
		return refuse(s, "not ended by a NUL")
	case !split:
		return refuse(s, "header without @")
	case !isWord(action):
		return refuse(s, "action is not a lower-case word")
	case len(devpath) < 2 || devpath[0] != '/' || path.Clean(devpath) != devpath:
		return refuse(s, "devpath is not absolute and clean")
	}

	e := Event{Action: Action(action), DevPath: devpath, fields: fields}
	var seqnum string
	for rest := fields; rest != ""; {
		var key, value string
		key, value, rest = nextField(rest)
		switch key {
		case "SUBSYSTEM":
			if e.Subsystem == "" {
				e.Subsystem = value
			}
		case "SEQNUM":
			seqnum = value
		}
	}
	var err error
	if e.Seqnum, err = strconv.ParseUint(seqnum, 10, 64); err != nil {
		return refuse(s, "SEQNUM is missing or not a number")
	}
	return e, nil
}

func refuse(msg, reason string) (Event, error) {
	return Event{}, &SyntaxError{Reason: reason, Start: strings.Clone(msg[:min(len(msg), maxQuoted)])}
}

// isWord reports whether s consists of lower-case ASCII letters, as every kernel action does.
func isWord(s string) bool {
	for i := range len(s) {
		if s[i] < 'a' || s[i] > 'z' {
			return false
		}
	}
	return s != ""
}
