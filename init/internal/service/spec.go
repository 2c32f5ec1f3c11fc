package service

import (
	"time"

	"golang.org/x/sys/unix"
)

// A Spec is what the image says about a service. The package comment tells the meaning of each field.
type Spec struct {
	Name   string
	Exec   string
	Args   []string // without argv[0]
	Env    []string
	UID    uint32
	GID    uint32
	Groups []uint32
	Dir    string

	Oneshot bool
	After   []string
	Ready   Ready

	Restart      Restart
	Delay        time.Duration
	Brake        Brake
	StartTimeout time.Duration // 0 for none
	StopTimeout  time.Duration
	StopSignal   unix.Signal

	TTY      string
	Limits   Limits
	OOMScore int
	Log      string
	LogSize  int64 // bytes
}

// Console is the value of Spec.TTY and of Spec.Log for the console of the kernel.
const Console = "console"

// Values of Spec.Log that are no file.
const (
	LogKmsg = "kmsg"
	LogNone = "none"
)

// A Ready says how a service tells that it can be used.
type Ready struct {
	Kind ReadyKind
	FD   int    // of ReadyFD
	Path string // of ReadyFile and ReadySocket
	Port uint16 // of ReadyTCP
}

// A ReadyKind is the way in which readiness shows.
type ReadyKind int

// The kinds of Ready.
const (
	ReadyStarted ReadyKind = iota
	ReadyFD
	ReadyFile
	ReadySocket
	ReadyTCP
)

// A Restart says when a service is started again after its end.
type Restart int

// The policies.
const (
	Never Restart = iota
	OnFailure
	Always
)

// A Brake bounds how often a service is started: after Starts of them Within some time, the next one comes after a Pause. The
// zero Brake brakes nothing. That of sysvinit is 10 in 2 minutes, then 5.
type Brake struct {
	Starts int
	Within time.Duration
	Pause  time.Duration
}

// Limits are those of cgroup v2. Zero is no limit.
type Limits struct {
	MemoryMax int64 // bytes
	PidsMax   int64
	CPUWeight int64
	CPUMax    int64 // µs of each 100 ms
}

// The targets that a service can be after without a service of that name. They are reached by the guard's word.
const (
	// Base: the file systems are mounted and the machine has its name. Images have a service that sees to that.
	Base = "base"

	// Settled: the devices that were there at the start have their modules.
	Settled = "settled"
)

// What is not said.
const (
	defaultDelay        = 100 * time.Millisecond
	defaultStartTimeout = 90 * time.Second
	defaultStopTimeout  = 10 * time.Second
	defaultLogSize      = 1 << 20
)

func defaultBrake() Brake { return Brake{Starts: 10, Within: 2 * time.Minute, Pause: 5 * time.Minute} }

// newSpec returns a daemon of which only the name has been said. Its program is missing.
func newSpec(name string) Spec {
	return Spec{
		Name: name, Dir: "/", Restart: Always, Delay: defaultDelay, Brake: defaultBrake(),
		StartTimeout: defaultStartTimeout, StopTimeout: defaultStopTimeout, StopSignal: unix.SIGTERM,
		Log: LogKmsg, LogSize: defaultLogSize,
	}
}

// ShellName is the name of the service that is the shell of an image.
const ShellName = "shell"

// Shell returns the service that images without one of their own have for `--shell`: the program at path on the console, again
// and again.
func Shell(path string, env ...string) Spec {
	s := newSpec(ShellName)
	s.Exec, s.TTY, s.Log, s.After, s.Env = path, Console, Console, []string{Settled}, env
	s.Delay, s.Brake = time.Second, Brake{}
	s.StopSignal, s.StopTimeout = unix.SIGHUP, time.Second // what a shell takes for the end of its terminal
	return s
}
