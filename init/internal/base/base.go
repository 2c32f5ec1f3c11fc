// Package base makes a usable system of the bare kernel, for an image that stays instead of handing over to a real root: file
// systems, host name, machine id, loopback, clock, random seed and sysctl settings.
//
// It is a role of the second binary of an image (init/extra), which runs once, as the service that the target base stands for.
// It starts no program and needs no configuration. Each step is on its own: what fails is reported, and the rest goes on, for
// a machine with a wrong clock is of more use than one that does not come up.
package base

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/klog"
	"hapax/init/internal/mnt"
)

// Name is the argv[0] of this role. A child of PID 1 may be wrong about a file of the image or of the firmware and die of it; PID 1
// may not.
const Name = "hapax-base"

// A System is a machine to set up. Files are read and written below Root; the fields behind it are the system calls that reach
// past any root. Live returns the real one.
type System struct {
	Root   string // "" for the real one
	Params *cmdline.Params

	Mounts   mnt.System
	Bind     func(source, target string) error // bind mount of a file, read-only
	Hostname func() (string, error)
	SetName  func(name string) error // of the host
	Loopback func() error            // has the interface lo up
	Random   func(p []byte) error    // fills p; waits until the kernel's generator is ready, which is a second at most
	Credit   func(seed []byte) error // adds to the kernel's generator, and counts it as entropy
	Now      func() time.Time
	SetTime  func(time.Time) error
	RTC      func() (time.Time, error)
}

// A step is one thing that Setup does. Its name begins the report of its failure.
type step struct {
	name string
	do   func(*System) error
}

// steps returns those of Setup in order. The last two may have to wait for the kernel's random generator.
func steps() []step {
	return []step{
		{"mount", (*System).mount},
		{"control groups", (*System).controllers},
		{"clock", (*System).clock},
		{"host name", (*System).hostname},
		{"loopback", (*System).loopback},
		{"sysctl", (*System).sysctl},
		{"random seed", (*System).seed},
		{"machine id", (*System).machineID},
	}
}

// Setup does all steps and returns what went wrong, each error with the name of its step in front.
func (s *System) Setup() []error {
	var errs []error
	for _, st := range steps() {
		if err := st.do(s); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", st.name, err))
		}
	}
	return errs
}

// Run sets the running system up and returns the exit status, which is always 0: what is missing stands in the log, and is no
// reason for the services to stay away.
func Run() int {
	raw, _ := os.ReadFile("/proc/cmdline") // without it the defaults hold
	params := cmdline.Parse(string(raw))
	log := klog.Open(params.LogLevel)
	for _, err := range Live(params).Setup() {
		log.Warnf("base: %v", err)
	}
	return 0
}

// mount makes the mounts of a system that stays.
func (s *System) mount() error {
	plan := append(mnt.Shell(), mnt.Standalone(func(dir string) bool {
		st, err := os.Stat(s.Root + dir)
		return err == nil && st.IsDir()
	})...)
	return errors.Join(mnt.Apply(s.Mounts, s.Root, plan)...)
}

// controllers lets services have limits of their own: a control group has only those controllers that its parent passes on.
// Each is written alone, because one that the kernel lacks would have it refuse the whole line.
func (s *System) controllers() error {
	const file = mnt.CgroupDir + "/cgroup.subtree_control"
	if _, err := os.Stat(s.Root + file); errors.Is(err, os.ErrNotExist) {
		return nil // no kernel for that, or mount has told
	}
	have, err := s.read(mnt.CgroupDir + "/cgroup.controllers")
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range strings.Fields(have) {
		errs = append(errs, s.write(file, "+"+name))
	}
	return errors.Join(errs...)
}

func (s *System) loopback() error { return s.Loopback() }

// maxFile bounds the files that are read here. None has a reason to be longer.
const maxFile = 1 << 20

// read returns the content of a file below the root, cut at maxFile.
func (s *System) read(name string) (string, error) {
	f, err := os.OpenFile(s.Root+name, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hold the boot
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	return string(b), err
}

// write writes a file below the root that is there, such as one of the kernel's, in one call.
func (s *System) write(name, text string) error {
	f, err := os.OpenFile(s.Root+name, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// replace makes a file below the root with the content given, or leaves the one that was there.
func (s *System) replace(name string, content []byte, mode os.FileMode) error {
	file := s.Root + name
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	tmp := file + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, file)
	}
	if err != nil {
		_ = os.Remove(tmp)
	}
	return err
}
