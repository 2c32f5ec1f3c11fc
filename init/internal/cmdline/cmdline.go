// Package cmdline reads the kernel command line: it splits it into words as the
// kernel itself does and gives the keys that hapax knows as typed values.
//
// It does no I/O; the caller hands over the contents of /proc/cmdline.
package cmdline

import (
	"iter"
	"strings"
	"time"
)

// Defaults of the keys that have one.
const (
	DefaultTimeout = 90 * time.Second // hapax.timeout
	DefaultDrain   = 5 * time.Second  // hapax.drain
)

// Params is the kernel command line, read. Nothing changes it after Parse, so it may be shared.
//
// Of a repeated key the last word counts, as in the kernel; LoadModules and Break collect every one.
type Params struct {
	Root       string        // root=, as written: rootdev.ParseRoot reads it
	RootFSType string        // rootfstype=: one type or a comma list, tried in order
	RootFlags  string        // rootflags=: options as in mount(8)
	ReadWrite  bool          // the last of ro and rw; without either false, as in the kernel
	RootWait   bool          // rootwait, or rootwait=SECONDS
	RootDelay  time.Duration // rootdelay=SECONDS
	Init       string        // init=; "" if not given
	Panic      int           // panic=SECONDS: 0 stays, negative reboots at once; only with HasPanic
	HasPanic   bool          // panic= is there and is a number
	Quiet      bool          // quiet

	Mode         Mode   // hapax.mode=; "" leaves it to the image and to root=
	Resume       string // resume=, as written: rootdev.ParseResume reads it; "" without, or with noresume
	ResumeOffset uint64 // resume_offset=: where a swap file begins, in pages
	Fsck         Fsck   // fsck.mode=

	NoShell   bool   // rd.shell=0: no shell when the boot cannot go on
	Emergency string // rd.emergency=reboot|poweroff|halt: what happens then, after the shell if there is one

	LoadModules []string // rd.modules_load= and modules_load= in order, each name once
	Break       []string // rd.break= in order, each point once; a bare rd.break is "pre-pivot"

	LogLevel      LogLevel      // hapax.log=debug|info|warn; info if not given
	ReportConsole bool          // hapax.report=console
	Trace         bool          // hapax.trace: tracefs is mounted before the engine starts
	Timeout       time.Duration // limit of the wait for the root, see Parse; Forever means none, 0 no wait
	Drain         time.Duration // hapax.drain=: limit for loads still running at switch_root; 0 does not wait
	DrainGiven    bool          // hapax.drain= is there: switch_root waits so long instead of going on beside the loads
	Workers       int           // hapax.workers=: loads at a time; 0 leaves the choice to the scheduler

	Watchdog     time.Duration // hapax.watchdog=: /dev/watchdog is to be fed, and bites after so long; 0 leaves it alone
	KeepWatchdog bool          // hapax.watchdog=SEC,keep: it goes on across switch_root

	Exitrd string // hapax.exitrd=0 or 1: never, or always, leave a shutdown helper; else by need

	Warnings []string // one printable line each: what was not understood, and what holds instead

	words []word
}

// A Mode is the value of hapax.mode=: what becomes of the machine.
type Mode string

// The modes.
const (
	Standalone Mode = "standalone" // the image stays, whatever root= says
	Initramfs  Mode = "initramfs"  // it hands over to a root, or gives its shell, whatever services it has
)

// A LogLevel is the value of hapax.log: how much PID 1 says.
type LogLevel uint8

// The levels, from terse to talkative, so that a message of level l is due if l <= LogLevel.
const (
	Warn LogLevel = iota
	Info
	Debug
)

// String returns the level's name on the command line.
func (l LogLevel) String() string {
	switch l {
	case Warn:
		return "warn"
	case Debug:
		return "debug"
	}
	return "info"
}

// A Fsck is the value of fsck.mode=.
type Fsck uint8

// When the file system of the root is checked.
const (
	FsckAuto  Fsck = iota // when it says that it needs it
	FsckForce             // always
	FsckSkip              // never
)

// Parse reads raw, the contents of /proc/cmdline, by the rules of the kernel's lib/cmdline.c: only '"'
// quotes, '-' equals '_' in keys, and "--" ends the kernel's part. It takes any bytes; an empty line
// gives the defaults. A value that makes no sense leaves its default and a warning.
//
// Timeout is hapax.timeout= if given, where "infinity" and, as for systemd's time-outs, 0 mean Forever;
// else what rootwait= says, Forever for a bare rootwait; else DefaultTimeout. For Drain 0 means 0.
func Parse(raw string) *Params {
	p := &Params{LogLevel: Info, Drain: DefaultDrain, words: split(raw)}
	r := reader{Params: p, timeout: DefaultTimeout}
	for _, w := range p.words {
		r.read(w)
	}
	p.Timeout = r.timeout
	if r.noResume {
		p.Resume = ""
	}
	return p
}

// Lookup returns the value of the last word whose key is key. A word without '=' has the value "".
// In key '-' and '_' are one.
func (p *Params) Lookup(key string) (value string, ok bool) {
	for v := range p.All(key) {
		value, ok = v, true
	}
	return value, ok
}

// All returns the value of every word whose key is key, in the order of the line.
func (p *Params) All(key string) iter.Seq[string] {
	key = normalize(key)
	return func(yield func(string) bool) {
		for _, w := range p.words {
			if w.key == key && !yield(w.value) {
				return
			}
		}
	}
}

// Below returns the rest of the key and the value of every word whose key begins with prefix, in the order of the line.
func (p *Params) Below(prefix string) iter.Seq2[string, string] {
	prefix = normalize(prefix)
	return func(yield func(string, string) bool) {
		for _, w := range p.words {
			if rest, ok := strings.CutPrefix(w.key, prefix); ok && !yield(rest, w.value) {
				return
			}
		}
	}
}
