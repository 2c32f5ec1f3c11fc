package control

import (
	"fmt"
	"strconv"
	"strings"

	"hapax/modload"
)

// A verb is what a request asks for.
type verb string

const (
	verbLoad   verb = "load"
	verbRemove verb = "remove"
	verbSettle verb = "settle"
	verbStatus verb = "status"
	verbWhy    verb = "why"
	verbTrace  verb = "trace"
	verbReload verb = "reload"

	// Of the guard.
	verbStart    verb = "start"
	verbStop     verb = "stop"
	verbRestart  verb = "restart"
	verbServices verb = "services"
	verbLog      verb = "log"
)

// guards reports whether the guard answers it, and not the engine.
func (v verb) guards() bool { return v.commands() || v == verbServices || v == verbLog }

// commands reports whether a service is to do something.
func (v verb) commands() bool { return v == verbStart || v == verbStop || v == verbRestart }

// waits reports whether the answer may take any time.
func (v verb) waits() bool {
	return v == verbLoad || v == verbRemove || v == verbSettle || v == verbTrace || v.guards()
}

// keys returns the keys that a verb takes, and false for one that is unknown.
func (v verb) keys() (string, bool) {
	switch v {
	case verbLoad:
		return " query params flags asker blacklist ignore-install ", true
	case verbRemove:
		return " name flags ", true
	case verbWhy, verbStart, verbStop, verbRestart, verbServices, verbLog:
		return " name ", true
	case verbSettle, verbStatus, verbTrace, verbReload:
		return "", true
	}
	return "", false
}

// A request is one packet of a client.
type request struct {
	verb verb
	call modload.Call // of load: all but the Origin
	name string       // of remove, why, and of a service
	flag int          // of remove
}

// encode returns the packet. Strings that hold a NUL end there, as they would
// on a command line.
func (r request) encode() []byte {
	b := make([]byte, 0, 128)
	b = append(b, version...)
	b = append(append(b, 0), r.verb...)
	put := func(key, value string) {
		if value != "" {
			value, _, _ = strings.Cut(value, "\x00")
			b = append(append(append(append(b, 0), key...), '='), value...)
		}
	}
	putInt := func(key string, n int) {
		if n != 0 {
			put(key, strconv.Itoa(n))
		}
	}
	putBool := func(key string, set bool) {
		if set {
			put(key, "1")
		}
	}
	put("query", r.call.Query)
	put("params", r.call.Params)
	put("asker", r.call.Asker)
	putInt("flags", r.call.Flags|r.flag)
	putBool("blacklist", r.call.Blacklist)
	putBool("ignore-install", r.call.IgnoreInstall)
	put("name", r.name)
	return b
}

// parseRequest decodes a packet. The error is a *Error with the word
// "request" or "version".
func parseRequest(packet []byte) (r request, err error) {
	head, rest, more := strings.Cut(string(packet), "\x00")
	if head != version {
		return r, &Error{Word: wordVersion, Text: "want " + version}
	}
	word, rest, more := cutField(rest, more)
	r.verb = verb(word)
	keys, known := r.verb.keys()
	if !known {
		return r, badRequest("unknown verb %q", word)
	}
	for more {
		var field string
		field, rest, more = cutField(rest, more)
		key, value, ok := strings.Cut(field, "=")
		if !ok || !strings.Contains(keys, " "+key+" ") {
			return r, badRequest("%s: unknown key %q", word, key)
		}
		if err := r.set(key, value); err != nil {
			return r, err
		}
	}
	switch {
	case r.verb == verbLoad && r.call.Query == "":
		return r, badRequest("load: query is missing")
	case (r.verb == verbRemove || r.verb == verbWhy || r.verb == verbLog || r.verb.commands()) && r.name == "":
		return r, badRequest("%s: name is missing", word)
	}
	return r, nil
}

func cutField(s string, more bool) (field, rest string, again bool) {
	if !more {
		return "", "", false
	}
	return strings.Cut(s, "\x00")
}

// set takes one key, which the verb has.
func (r *request) set(key, value string) error {
	switch key {
	case "query":
		r.call.Query = value
	case "params":
		r.call.Params = value
	case "asker":
		r.call.Asker = value
	case "name":
		r.name = value
	case "blacklist", "ignore-install":
		if value != "1" {
			return badRequest("%s=%q: want 1", key, value)
		}
		if key == "blacklist" {
			r.call.Blacklist = true
		} else {
			r.call.IgnoreInstall = true
		}
	case "flags":
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil {
			return badRequest("flags=%q: want a number", value)
		}
		if r.verb == verbLoad {
			r.call.Flags = int(n)
		} else {
			r.flag = int(n)
		}
	}
	return nil
}

func badRequest(format string, args ...any) *Error {
	return &Error{Word: wordRequest, Text: "bad request: " + fmt.Sprintf(format, args...)}
}

// The kinds of answer packets.
const (
	kindModule = "module"
	kindJSON   = "json"
	kindText   = "text"
	kindEnd    = "end"
)

// join makes a packet of fields. What holds a NUL or is too long is cut.
func join(fields ...string) []byte {
	var b []byte
	for i, f := range fields {
		if i > 0 {
			b = append(b, 0)
		}
		f, _, _ = strings.Cut(f, "\x00")
		b = append(b, f[:min(len(f), maxText)]...)
	}
	return b
}

// encodeOutcome returns the module packet of one outcome.
func encodeOutcome(o modload.Outcome) []byte {
	isNew := "0"
	if o.New {
		isNew = "1"
	}
	e := describe(o.Err)
	return join(kindModule, o.Module, o.State.String(), isNew, e.Word, strconv.Itoa(int(e.Errno)), e.Text)
}

// encodeEnd returns the end packet, with err or for success.
func encodeEnd(err error) []byte {
	e := describe(err)
	return join(kindEnd, e.Word, strconv.Itoa(int(e.Errno)), e.Text)
}

// An answer is one packet of the engine.
type answer struct {
	kind    string
	outcome modload.Outcome // of module
	part    []byte          // of json and text
	err     error           // of end: nil or a *Error
}

// parseAnswer decodes a packet.
func parseAnswer(packet []byte) (a answer, err error) {
	kind, rest, _ := strings.Cut(string(packet), "\x00")
	a.kind = kind
	if kind == kindJSON || kind == kindText {
		a.part = []byte(rest)
		return a, nil
	}
	fields := strings.Split(rest, "\x00")
	switch {
	case kind == kindModule && len(fields) == 6:
		state, known := parseState(fields[1])
		if !known {
			return a, fmt.Errorf("control: unknown module state %q", fields[1])
		}
		a.outcome = modload.Outcome{Module: fields[0], State: state, New: fields[2] == "1"}
		a.outcome.Err, err = parseError(fields[3:])
	case kind == kindEnd && len(fields) == 3:
		a.err, err = parseError(fields)
	default:
		err = fmt.Errorf("control: unknown answer %q", kind)
	}
	return a, err
}

func parseState(word string) (modload.State, bool) {
	for s := modload.Waiting; s <= modload.Removed; s++ {
		if s.String() == word {
			return s, true
		}
	}
	return 0, false
}
