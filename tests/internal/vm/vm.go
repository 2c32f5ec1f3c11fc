// Package vm runs QEMU guests for tests: it reads the serial console line by line, types on it, speaks QMP, kills the
// guest at its deadline, and keeps the console's log when a test fails.
package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/vm/qmp"
)

// Why a wait can end without its line.
var (
	ErrPanic   = errors.New("vm: the guest's kernel panicked")
	ErrExited  = errors.New("vm: qemu has ended")
	ErrLimit   = errors.New("vm: the guest ran into its time limit and was killed")
	ErrTimeout = errors.New("vm: time-out")
)

// SlowEnv names the environment variable that holds a factor, at least 1, for every time limit of this package.
// Slow or busy machines set it.
const SlowEnv = "HAPAX_TEST_SLOW"

// Config is what Start needs to know.
type Config struct {
	Name    string        // distinguishes the log files of a test with several guests
	Machine qemu.Machine  // its Serial and QMP fields are set by Start
	Limit   time.Duration // of the guest's life, in host time; 0 is two minutes
	Panics  bool          // a kernel panic is what the test wants to see: do not fail for it
}

const defaultLimit = 2 * time.Minute

// A VM is a running guest. Send, the QMP client and the waits may be used by several goroutines, but all waits share one
// position in the console's output: a line is handed out once.
type VM struct {
	QMP *qmp.Client

	stdin   io.WriteCloser // the guest's serial input
	console *console
	stop    context.CancelCauseFunc
	exited  chan struct{} // closed after err has been set
	nudged  chan struct{} // closed when nobody nudges the guest any more; nil if nobody does
	err     error         // how QEMU ended: nil is exit status 0
	dir     string        // holds the QMP socket
	slow    float64
	panics  bool
	mute    bool // its kernel does not say when it starts init
}

var errClosed = errors.New("vm: closed")

// Start starts QEMU and returns when its monitor answers, before the guest's kernel runs far.
// The guest is killed when ctx ends, at its limit, by Close, and when this process dies.
func Start(ctx context.Context, cfg Config) (*VM, error) {
	slow, err := slowness(os.Getenv(SlowEnv))
	if err != nil {
		return nil, err
	}
	// Not below the test's own folder: a socket's path is limited to 107 bytes.
	dir, err := os.MkdirTemp("", "hapax-vm-")
	if err != nil {
		return nil, err
	}
	v := &VM{console: newConsole(), exited: make(chan struct{}), dir: dir, slow: slow, panics: cfg.Panics}
	args := strings.Fields(cfg.Machine.Append)
	v.mute = cfg.Panics || slices.Contains(args, "quiet") || !slices.Contains(args, "console=ttyS0")
	if cfg.Limit == 0 {
		cfg.Limit = defaultLimit
	}
	ctx, v.stop = context.WithCancelCause(ctx)
	ctx, cancel := context.WithTimeoutCause(ctx, v.scale(cfg.Limit), ErrLimit)
	m := cfg.Machine
	// With a thread for each processor, QEMU 7.2 can go on executing an instruction that another processor has replaced: the
	// kernel's breakpoint while it patches itself, for ever.
	m.OneThread = true
	m.Serial, m.QMP = "stdio,signal=off", filepath.Join(dir, "qmp")
	if err := v.exec(ctx, cancel, m); err != nil {
		cancel()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := v.dial(ctx, m.QMP); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	if m.Sleep {
		v.nudged = make(chan struct{})
		go v.nudge(ctx)
	}
	return v, nil
}

// exec starts QEMU and a goroutine that sees it end.
func (v *VM) exec(ctx context.Context, cancel context.CancelFunc, m qemu.Machine) error {
	args, err := m.Args()
	if err != nil {
		return err
	}
	path, err := exec.LookPath(qemu.Binary)
	if err != nil {
		return fmt.Errorf("%w (Debian package qemu-system-x86: make test as root installs it)", err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = v.console, &stderr
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if v.stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread that forked ends, not the process: keep the thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer cancel()
		err := startNice(cmd, m.Sleep)
		started <- err
		if err != nil {
			return
		}
		v.err = describe(cmd.Wait(), context.Cause(ctx), stderr.String())
		v.console.end()
		close(v.exited)
	}()
	return <-started
}

// startNice starts QEMU, on the thread that calls it. What a guest with a sleeping clock waits for the host counts as its own
// time: it goes before everything else that the host does, where this process has the right to say so.
func startNice(cmd *exec.Cmd, first bool) error {
	const thread, ahead = 0, 10 // the nice value is the thread's own, and its children's
	before, err := syscall.Getpriority(syscall.PRIO_PROCESS, thread)
	if !first || err != nil {
		return cmd.Start()
	}
	nice := 20 - before // getpriority(2): the system call has no negative results
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, thread, nice-ahead)
	defer func() { _ = syscall.Setpriority(syscall.PRIO_PROCESS, thread, nice) }()
	return cmd.Start()
}

// describe turns the result of exec.Cmd.Wait into the reason that a test should read.
func describe(wait, cause error, stderr string) error {
	switch {
	case wait == nil:
		return nil
	case cause != nil:
		return cause
	}
	return fmt.Errorf("qemu: %w: %s", wait, strings.TrimSpace(stderr))
}

// dial connects to the monitor. It gives up as soon as QEMU ends, as it does when it refuses an argument.
func (v *VM) dial(ctx context.Context, path string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-v.exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	client, err := qmp.Dial(ctx, path)
	if err == nil {
		v.QMP = client
		return nil
	}
	// A connection that breaks is how a dying QEMU looks from here. What it said on stderr tells more.
	if exit := v.WaitExit(time.Second); exit != nil && !errors.Is(exit, ErrTimeout) {
		return fmt.Errorf("%w: %w", ErrExited, exit)
	}
	return err
}

// nudgeEvery is how long a guest with a lost wake-up stands still, in host time. Its own clock stands still with it.
const nudgeEvery = 100 * time.Millisecond

// nudge has QEMU's main loop turn now and then, until ctx ends or QEMU does. QEMU 7.2 with -icount sleep=on can lose the
// wake-up of a guest that is idle: icount_start_warp_timer leaves a timer that is armed already as it is, which then goes off
// before the guest's next deadline and is not armed again until something else wakes the main loop. A question to the monitor
// is such a thing.
func (v *VM) nudge(ctx context.Context) {
	defer close(v.nudged)
	tick := time.NewTicker(nudgeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if v.QMP.Execute(ctx, "query-status", nil, nil) != nil {
			return // the waits see that QEMU has ended
		}
	}
}

// Close kills the guest if it still runs and waits until nothing of it is left. It may be called again.
func (v *VM) Close() error {
	v.stop(errClosed)
	<-v.exited
	if v.nudged != nil {
		<-v.nudged
	}
	var err error
	if v.QMP != nil {
		err = v.QMP.Close()
	}
	return errors.Join(err, os.RemoveAll(v.dir))
}

// Send types one line on the serial console.
func (v *VM) Send(line string) error { return v.Type(line + "\n") }

// Type types keys on the serial console, whatever they are.
func (v *VM) Type(keys string) error {
	if _, err := io.WriteString(v.stdin, keys); err != nil {
		return fmt.Errorf("vm: type %.40q: %w", keys, err)
	}
	return nil
}

// WaitLine waits for a line that contains text and returns it. Lines are looked at once, in order: the next wait begins
// after the line that this one returned, or where it timed out. The wait fails at once when the guest panics or ends.
func (v *VM) WaitLine(timeout time.Duration, text string) (string, error) {
	return v.wait(timeout, strconv.Quote(text), func(line string) bool { return strings.Contains(line, text) })
}

// WaitMatch is WaitLine for a regular expression. It returns the match and its groups.
func (v *VM) WaitMatch(timeout time.Duration, re *regexp.Regexp) ([]string, error) {
	line, err := v.wait(timeout, re.String(), re.MatchString)
	return re.FindStringSubmatch(line), err
}

// WaitExit waits until QEMU has ended. Nil means that it ended by itself with status 0, as after a power-off.
func (v *VM) WaitExit(timeout time.Duration) error {
	timer := time.NewTimer(v.scale(timeout))
	defer timer.Stop()
	select {
	case <-v.exited:
		return v.err
	case <-timer.C:
		return fmt.Errorf("%w after %v: qemu still runs", ErrTimeout, timeout)
	}
}

// Lines returns all that the console has shown, with the host's time since the start for each line.
func (v *VM) Lines() []Line { return v.console.snapshot() }

// scale stretches a time limit for a slow machine.
func (v *VM) scale(d time.Duration) time.Duration { return time.Duration(float64(d) * v.slow) }

// slowness reads the value of SlowEnv.
func slowness(value string) (float64, error) {
	if value == "" {
		return 1, nil
	}
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || !(f >= 1 && f <= 1000) { // written so that NaN is refused
		return 0, fmt.Errorf("vm: %s=%q: want a factor between 1 and 1000", SlowEnv, value)
	}
	return f, nil
}
