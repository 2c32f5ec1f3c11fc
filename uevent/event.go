// Package uevent receives and decodes the messages with which the Linux kernel announces devices
// (NETLINK_KOBJECT_UEVENT, group 1).
//
// Parse is pure and portable. Listen opens the socket; it trusts nothing but the kernel itself and
// turns every way in which the kernel can lose a message into ErrOverrun.
package uevent

import "strings"

// An Action is the kind of a uevent. The kernel may grow new ones, so any lower-case word is accepted.
type Action string

// The actions of lib/kobject_uevent.c.
const (
	Add     Action = "add"
	Remove  Action = "remove"
	Change  Action = "change"
	Move    Action = "move"
	Online  Action = "online"
	Offline Action = "offline"
	Bind    Action = "bind"
	Unbind  Action = "unbind"
)

// An Event is one message of the kernel's uevent multicast group.
//
// An Event owns its memory: Parse copies the message once, so the receive buffer can be reused at
// once. Its strings share that copy; who keeps one of them for long keeps all of the message (at most
// a few KiB), strings.Clone cuts the tie. An Event is immutable and may be shared between goroutines.
type Event struct {
	Action    Action
	DevPath   string // below /sys, absolute and clean
	Subsystem string // empty for a kobject without one
	Seqnum    uint64 // kernel-wide; may arrive out of order, and other net namespaces leave gaps, so no proof of loss

	fields string // KEY=VALUE fields, each ended by a NUL
}

// Var returns the first value of an environment key such as "MODALIAS", and whether there is one.
// A value may contain '=': the first one of a field splits. White space around the value is cut off,
// for the kernel ends the MODALIAS of a cpu device in a newline; otherwise it is as the kernel sent it,
// so device names and labels in it are data of an untrusted device.
func (e *Event) Var(key string) (string, bool) {
	for rest := e.fields; rest != ""; {
		var k, v string
		k, v, rest = nextField(rest)
		if k == key {
			return v, true
		}
	}
	return "", false
}

// Vars returns every value of key in the order of the message, nil if there is none. Older kernels
// send two MODALIAS fields for some ACPI devices. The values are those that Var describes.
func (e *Event) Vars(key string) []string {
	var values []string
	for rest := e.fields; rest != ""; {
		var k, v string
		k, v, rest = nextField(rest)
		if k == key {
			values = append(values, v)
		}
	}
	return values
}

// nextField splits the first field off s. A field without '=' has no key and gives "".
func nextField(s string) (key, value, rest string) {
	field, rest, _ := strings.Cut(s, "\x00")
	key, value, ok := strings.Cut(field, "=")
	if !ok {
		return "", "", rest
	}
	return key, trimSpace(value), rest
}

// trimSpace is strings.TrimSpace for ASCII: a value need not be UTF-8.
func trimSpace(s string) string {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	for s != "" && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }
