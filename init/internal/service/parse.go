package service

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of the file. The builder holds them, too.
const (
	maxFile     = 256 << 10
	maxServices = 128
	maxName     = 64
	maxTime     = 24 * time.Hour
)

// Parse reads the text of a [File]. The error of a bad one names the line; no service of it is returned then.
func Parse(text string) ([]Spec, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("more than %d bytes", maxFile)
	}
	head, rest, _ := strings.Cut(text, "\n")
	if head != Header {
		return nil, fmt.Errorf("line 1: want %q", Header)
	}
	var p parser
	n := 1
	for line := range strings.Lines(rest) {
		n++
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		value, err := unescape(value)
		if err == nil {
			err = p.line(key, value)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", n, key, err)
		}
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	if err := check(p.specs); err != nil {
		return nil, err
	}
	return p.specs, nil
}

// A parser has the services so far; the last of them is not complete.
type parser struct {
	specs []Spec
	said  []string // keys of the last service
}

var (
	errTwice = errors.New("said twice")
	errWord  = errors.New("unknown word")
	errKey   = errors.New("unknown key")
)

// line takes one line.
func (p *parser) line(key, value string) error {
	if key == "service" {
		switch {
		case !ValidName(value):
			return fmt.Errorf("%q is no name", value)
		case len(p.specs) == maxServices:
			return fmt.Errorf("more than %d services", maxServices)
		case slices.ContainsFunc(p.specs, func(s Spec) bool { return s.Name == value }):
			return fmt.Errorf("%s: %w", value, errTwice)
		}
		if err := p.finish(); err != nil {
			return err
		}
		p.specs, p.said = append(p.specs, newSpec(value)), nil
		return nil
	}
	if len(p.specs) == 0 {
		return errors.New("no service has begun")
	}
	s := &p.specs[len(p.specs)-1]
	if known, err := s.setList(key, value); known {
		return err
	}
	if slices.Contains(p.said, key) {
		return errTwice
	}
	p.said = append(p.said, key)
	return s.set(key, value)
}

// finish completes the last service, if there is one.
func (p *parser) finish() error {
	if len(p.specs) == 0 {
		return nil
	}
	s := &p.specs[len(p.specs)-1]
	if s.Exec == "" {
		return fmt.Errorf("service %s has no exec", s.Name)
	}
	if s.Oneshot {
		if !slices.Contains(p.said, "restart") {
			s.Restart = Never
		}
		if !slices.Contains(p.said, "start-timeout") {
			s.StartTimeout = 0
		}
	}
	return nil
}

// setList takes a key that may come more than once. known is false for any other.
func (s *Spec) setList(key, value string) (known bool, err error) {
	switch key {
	case "arg":
		s.Args = append(s.Args, value)
	case "env":
		s.Env = append(s.Env, value)
		if name, _, ok := strings.Cut(value, "="); !ok || name == "" {
			err = fmt.Errorf("%q is not KEY=VALUE", value)
		}
	case "after":
		s.After = append(s.After, value)
	case "group":
		var n int64
		n, err = number(value, 0, 1<<32-2)
		s.Groups = append(s.Groups, uint32(n))
	default:
		return false, nil
	}
	return true, err
}

// set takes a key that comes once.
func (s *Spec) set(key, value string) (err error) {
	switch key {
	case "exec":
		s.Exec, err = path(value)
	case "dir":
		s.Dir, err = path(value)
	case "uid", "gid":
		var n int64
		n, err = number(value, 0, 1<<32-2)
		if key == "uid" {
			s.UID = uint32(n)
		} else {
			s.GID = uint32(n)
		}
	case "type":
		s.Oneshot, err = value == "oneshot", oneOf(value, "daemon", "oneshot")
	case "ready":
		s.Ready, err = parseReady(value)
	case "restart":
		words := []string{"no", "on-failure", "always"}
		s.Restart, err = Restart(slices.Index(words, value)), oneOf(value, words...)
	case "restart-delay":
		s.Delay, err = duration(value)
	case "brake":
		s.Brake, err = parseBrake(value)
	case "start-timeout":
		s.StartTimeout, err = duration(value)
	case "stop-timeout":
		s.StopTimeout, err = duration(value)
	case "stop-signal":
		if s.StopSignal = signalNumber(value); s.StopSignal == 0 {
			err = errWord
		}
	case "tty":
		if s.TTY = value; value != Console {
			s.TTY, err = path(value)
		}
	case "log":
		if s.Log = value; oneOf(value, LogKmsg, Console, LogNone) != nil {
			s.Log, err = path(value)
		}
	case "log-size":
		s.LogSize, err = number(value, 1<<10, 1<<40)
	case "oom-score":
		var n int64
		n, err = number(value, -1000, 1000)
		s.OOMScore = int(n)
	default:
		return s.Limits.set(key, value)
	}
	return err
}

func (l *Limits) set(key, value string) (err error) {
	switch key {
	case "memory-max":
		l.MemoryMax, err = number(value, 1, 1<<62)
	case "pids-max":
		l.PidsMax, err = number(value, 1, 1<<31)
	case "cpu-weight":
		l.CPUWeight, err = number(value, 1, 10000)
	case "cpu-max":
		l.CPUMax, err = number(value, 1000, 1<<40)
	default:
		return errKey
	}
	return err
}

func parseReady(value string) (r Ready, err error) {
	kind, rest, _ := strings.Cut(value, ":")
	switch kind {
	case "started":
		if value != kind {
			err = errWord
		}
	case "fd":
		var n int64
		n, err = number(rest, 3, 9)
		r.Kind, r.FD = ReadyFD, int(n)
	case "file":
		r.Kind = ReadyFile
		r.Path, err = path(rest)
	case "socket":
		r.Kind = ReadySocket
		if r.Path, err = path(rest); len(rest) > 107 {
			err = errors.New("a socket's path has at most 107 bytes")
		}
	case "tcp":
		var n int64
		n, err = number(rest, 1, 65535)
		r.Kind, r.Port = ReadyTCP, uint16(n)
	default:
		err = errWord
	}
	return r, err
}

func parseBrake(value string) (b Brake, err error) {
	if value == "none" {
		return Brake{}, nil
	}
	f := strings.Split(value, " ")
	if len(f) != 3 {
		return b, errors.New(`want "N TIME PAUSE"`)
	}
	n, err := number(f[0], 1, 1000)
	if err == nil {
		b.Starts = int(n)
		b.Within, err = duration(f[1])
	}
	if err == nil {
		b.Pause, err = duration(f[2])
	}
	return b, err
}

// unescape undoes what is escaped in a value.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return "", errors.New("a zero byte")
	}
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		i++
		switch {
		case i < len(s) && s[i] == '\\':
			b = append(b, '\\')
		case i < len(s) && s[i] == 'n':
			b = append(b, '\n')
		default:
			return "", errors.New(`a backslash before neither \ nor n`)
		}
	}
	return string(b), nil
}

// ValidName reports whether a service may have this name: letters, digits and "_-.@", no dot or dash in front, and not that of the
// target that no service can be.
func ValidName(name string) bool {
	if name == "" || len(name) > maxName || name[0] == '.' || name[0] == '-' || name == Settled {
		return false
	}
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_-.@", c) >= 0) {
			return false
		}
	}
	return true
}

func path(value string) (string, error) {
	if !strings.HasPrefix(value, "/") {
		return "", fmt.Errorf("%q is no absolute path", value)
	}
	return value, nil
}

func number(value string, least, most int64) (int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%q is no number from %d to %d", value, least, most)
	}
	return n, nil
}

func duration(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d > maxTime {
		return 0, fmt.Errorf("%q is no time from 0s to %v", value, maxTime)
	}
	return d, nil
}

func oneOf(value string, words ...string) error {
	if !slices.Contains(words, value) {
		return errWord
	}
	return nil
}

// check looks at the services together: whatever one of them is after has to be there, and none may be after itself.
func check(specs []Spec) error {
	pending := map[string][]string{}
	for _, s := range specs {
		pending[s.Name] = s.After
	}
	for _, s := range specs {
		for _, name := range s.After {
			if _, known := pending[name]; !known && name != Base && name != Settled {
				return fmt.Errorf("service %s is after %s, which is not there", s.Name, name)
			}
		}
	}
	// What is after nothing that is still pending can be started; what remains in the end cannot.
	for left := len(pending) + 1; len(pending) < left; {
		left = len(pending)
		for name, after := range pending {
			if !slices.ContainsFunc(after, func(a string) bool { _, is := pending[a]; return is }) {
				delete(pending, name)
			}
		}
	}
	for _, s := range specs {
		if _, stuck := pending[s.Name]; stuck {
			return fmt.Errorf("service %s is after itself, by way of %s", s.Name, strings.Join(s.After, ", "))
		}
	}
	return nil
}
