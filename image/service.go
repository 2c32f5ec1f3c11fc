package image

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Service is a program that an image that stays starts and watches: a [[service]] table of hapax.toml, whose manual is
// docs/standalone.md. Zero fields are what /init takes for them; the package comment of init/internal/service has those values,
// and the form in which services are written into the image.
type Service struct {
	Name string   `toml:"name"`
	Exec absPath  `toml:"exec"` // taken from Root with its libraries if it is not in the image yet
	Args []string `toml:"args"`
	Env  []envVar `toml:"env"`

	User  string  `toml:"user"`  // name or number; default root
	Group string  `toml:"group"` // default that of User
	Dir   absPath `toml:"dir"`

	Type  ServiceType `toml:"type"`
	After []string    `toml:"after"`
	Ready readiness   `toml:"ready"`

	Restart      Restart  `toml:"restart"`
	RestartDelay duration `toml:"restart-delay"`
	Brake        brake    `toml:"brake"`
	StartTimeout duration `toml:"start-timeout"`
	StopTimeout  duration `toml:"stop-timeout"`
	StopSignal   sigName  `toml:"stop-signal"`

	TTY       string  `toml:"tty"` // "console" or a device
	MemoryMax amount  `toml:"memory-max"`
	PidsMax   int64   `toml:"pids-max"`
	CPUWeight int64   `toml:"cpu-weight"`
	CPUMax    float64 `toml:"cpu-max"` // processors
	OOMScore  int64   `toml:"oom-score"`
	Log       string  `toml:"log"` // "kmsg", "console", "none" or a file
	LogSize   amount  `toml:"log-size"`

	// Where is the place of the table, as "FILE:LINE", for errors; "" if there is none.
	Where string `toml:"-"`
}

// A ServiceType says when a service counts as ready.
type ServiceType string

// The types. A daemon stays; a oneshot is ready when it has ended well.
const (
	Daemon  ServiceType = "daemon"
	Oneshot ServiceType = "oneshot"
)

// UnmarshalText refuses what is no type.
func (t *ServiceType) UnmarshalText(text []byte) error {
	return unmarshalWord(t, []ServiceType{Daemon, Oneshot}, text)
}

// A Restart says after which ends a service is started again.
type Restart string

// The policies.
const (
	RestartNo        Restart = "no"
	RestartOnFailure Restart = "on-failure"
	RestartAlways    Restart = "always"
)

// UnmarshalText refuses what is no policy.
func (r *Restart) UnmarshalText(text []byte) error {
	return unmarshalWord(r, []Restart{RestartNo, RestartOnFailure, RestartAlways}, text)
}

// The words below are those of hapax.toml. Their UnmarshalText says what is wrong about one, so that the error has its place.
type (
	absPath   string // an absolute path in the image
	envVar    string // KEY=VALUE
	readiness string // of Service.Ready
	duration  string // as time.ParseDuration takes it
	brake     string // "STARTS in TIME, then PAUSE", or "none"
	sigName   string // with or without SIG
	amount    string // of bytes: a number, with K, M or G for powers of 1024
)

func (p *absPath) UnmarshalText(text []byte) error {
	*p = absPath(text)
	return checkPath(string(text))
}

func checkPath(path string) error {
	if !strings.HasPrefix(path, "/") {
		return fmt.Errorf("%q is no absolute path", path)
	}
	return nil
}

func (e *envVar) UnmarshalText(text []byte) error {
	*e = envVar(text)
	if name, _, ok := strings.Cut(string(text), "="); !ok || name == "" {
		return fmt.Errorf(`%q: write "NAME=VALUE"`, text)
	}
	return nil
}

func (r *readiness) UnmarshalText(text []byte) error {
	*r = readiness(text)
	kind, rest, _ := strings.Cut(string(text), ":")
	switch kind {
	case "started":
		if rest == "" {
			return nil
		}
	case "fd", "tcp":
		least, most := uint64(3), uint64(9)
		if kind == "tcp" {
			least, most = 1, 65535
		}
		if n, err := strconv.ParseUint(rest, 10, 16); err != nil || n < least || n > most {
			return fmt.Errorf("%q: want a number from %d to %d", text, least, most)
		}
		return nil
	case "file", "socket":
		if kind == "socket" && len(rest) > 107 {
			return fmt.Errorf("%q: the path of a socket has at most 107 bytes", text)
		}
		return checkPath(rest)
	}
	return fmt.Errorf(`unknown readiness %q: use "started", "fd:N", "file:PATH", "socket:PATH" or "tcp:PORT"`, text)
}

func (d *duration) UnmarshalText(text []byte) error {
	*d = duration(text)
	return checkDuration(string(text))
}

// checkDuration refuses a time that /init would refuse.
func checkDuration(text string) error {
	const most = 24 * time.Hour
	if d, err := time.ParseDuration(text); err != nil || d < 0 || d > most {
		return fmt.Errorf(`%q: want a time up to a day, such as "500ms", "10s" or "5m"`, text)
	}
	return nil
}

func (b *brake) UnmarshalText(text []byte) error {
	*b = brake(text)
	_, err := b.line()
	return err
}

// line returns the brake as the image has it.
func (b brake) line() (string, error) {
	if b == "" || b == "none" {
		return string(b), nil
	}
	bad := fmt.Errorf(`%q: write "N in TIME, then PAUSE", such as "10 in 2m, then 5m", or "none"`, string(b))
	f := strings.Fields(strings.Replace(string(b), ",", " ", 1))
	if len(f) != 5 || f[1] != "in" || f[3] != "then" {
		return "", bad
	}
	if n, err := strconv.Atoi(f[0]); err != nil || n < 1 || n > 1000 {
		return "", bad
	}
	if err := errors.Join(checkDuration(f[2]), checkDuration(f[4])); err != nil {
		return "", bad
	}
	return f[0] + " " + f[2] + " " + f[4], nil
}

func (s *sigName) UnmarshalText(text []byte) error {
	*s = sigName(text)
	if unix.SignalNum(s.full()) == 0 {
		return fmt.Errorf("%q is no signal", text)
	}
	return nil
}

// full returns the name with SIG in front.
func (s sigName) full() string { return "SIG" + strings.TrimPrefix(string(s), "SIG") }

func (a *amount) UnmarshalText(text []byte) error {
	*a = amount(text)
	_, err := a.bytes()
	return err
}

func (a amount) bytes() (int64, error) {
	digits, unit := string(a), int64(1)
	for i, suffix := range []string{"K", "M", "G"} {
		if rest, ok := strings.CutSuffix(digits, suffix); ok {
			digits, unit = rest, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > 1<<40/unit {
		return 0, fmt.Errorf(`%q: want bytes, such as "64M"`, string(a))
	}
	return n * unit, nil
}

// check returns what is wrong about a service by itself.
func (s *Service) check() error {
	switch {
	case !validName(s.Name):
		return fmt.Errorf("%q is no name for a service: use up to 64 letters, digits and _-.@, no dot or dash in front, and not %q", s.Name, settled)
	case s.Exec == "":
		return errors.New("exec is missing")
	case s.Type == Oneshot && s.Restart == RestartAlways:
		return errors.New(`a oneshot ends: restart = "always" would start it for ever`)
	case s.Type == Oneshot && s.Ready != "":
		return errors.New("a oneshot is ready when it has ended: leave out ready")
	case s.TTY != "" && s.Log != "":
		return errors.New("what it writes goes to its tty: leave out log")
	case s.LogSize != "" && !strings.HasPrefix(s.Log, "/"):
		return errors.New("log-size is that of a file: name one with log")
	case s.PidsMax < 0 || s.CPUMax < 0 || s.CPUMax > 1e4 || s.CPUMax > 0 && s.CPUMax < 0.01:
		return errors.New("pids-max is a number of processes, cpu-max one of processors from 0.01")
	case s.CPUWeight < 0 || s.CPUWeight > 10000:
		return errors.New("cpu-weight is a number from 1 to 10000")
	case s.OOMScore < -1000 || s.OOMScore > 1000:
		return errors.New("oom-score is a number from -1000 to 1000")
	}
	if s.TTY != "" && s.TTY != "console" && checkPath(s.TTY) != nil {
		return fmt.Errorf(`tty: %q: use "console" or the path of a device`, s.TTY)
	}
	if !slices.Contains([]string{"", "kmsg", "console", "none"}, s.Log) && checkPath(s.Log) != nil {
		return fmt.Errorf(`log: %q: use "kmsg", "console", "none" or the path of a file`, s.Log)
	}
	return nil
}

// settled is a target of /init: no service can have its name.
const settled = "settled"

func validName(name string) bool {
	if name == "" || len(name) > 64 || name[0] == '.' || name[0] == '-' || name == settled {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.@") == "" &&
		!strings.ContainsFunc(name, func(r rune) bool { return r > 126 || r < '-' || r == '/' })
}

// at puts the place of a service and its name in front of an error.
func (s *Service) at(err error) error {
	if err == nil {
		return nil
	}
	if s.Where != "" {
		return fmt.Errorf("%s: service %s: %w", s.Where, s.Name, err)
	}
	return fmt.Errorf("service %s: %w", s.Name, err)
}
