package service

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/klog"
	"hapax/init/internal/slim"
)

// Linux is the System of the running kernel. Only the goroutine that waits for children may use it, but for Log.
type Linux struct {
	Logger *klog.Logger
	Path   string // PATH of services that say nothing about it

	Term string // TERM of services with a terminal

	// Console returns the path of the terminal behind the console of the kernel.
	Console func() string

	// Cgroup is where cgroup v2 is mounted. Without it a service has its process group alone, and no limits.
	Cgroup string

	rings map[string]*ring
	looks atomic.Bool // at a file, in before
}

// Prepare makes room for the output of services. It is called before the first Start.
func (l *Linux) Prepare(specs []Spec) {
	l.rings = make(map[string]*ring, len(specs))
	for _, s := range specs {
		l.rings[s.Name] = &ring{size: kept(len(specs))}
	}
}

// Log returns the last lines that a service has written.
func (l *Linux) Log(name string) []byte {
	if r := l.rings[name]; r != nil {
		return r.bytes()
	}
	return nil
}

// A process is a service that runs.
type process struct {
	pid    int
	spec   *Spec
	group  cgroup  // "" for none
	output *output // nil for none
	since  time.Time
	before unix.Stat_t // the file of ReadyFile at the start; zero if there was none
}

// Start forks the program, in its own session and cgroup.
func (l *Linux) Start(s *Spec, ready func()) (Process, error) {
	p := &process{spec: s}
	if s.Ready.Kind == ReadyFile {
		p.before = l.before(s.Ready.Path)
	}
	f := files{-1, -1, -1}
	said, err := l.open(s, &f, p)
	if err == nil {
		slim.Allow()
		err = l.launch(s, f, p)
		slim.Forbid()
	}
	f.closeAll()
	if err != nil {
		if said != nil {
			said.Close()
		}
		if p.output != nil {
			p.output.pipe.Close()
		}
		return nil, err
	}
	if p.output != nil {
		go p.output.run()
	}
	if said != nil {
		go await(said, ready)
	}
	return p, nil
}

// lookPatience is how long a start waits for the disk on which the file of ReadyFile is. A busy machine answers in it.
const lookPatience = 250 * time.Millisecond

// before returns what there is of the file of ReadyFile; nothing if its disk does not answer. While one does not, there is no
// other look.
func (l *Linux) before(path string) unix.Stat_t {
	answer := make(chan unix.Stat_t, 1)
	if !l.looks.Swap(true) {
		go func() {
			var st unix.Stat_t
			_ = unix.Lstat(path, &st)
			l.looks.Store(false)
			answer <- st
		}()
	}
	select {
	case st := <-answer:
		return st
	case <-time.After(lookPatience):
		return unix.Stat_t{}
	}
}

// open opens what the program gets, and returns the end of the pipe on which it says that it is ready, nil for none.
func (l *Linux) open(s *Spec, f *files, p *process) (said *os.File, err error) {
	if err := l.standard(s, f, p); err != nil || s.Ready.Kind != ReadyFD {
		return nil, err
	}
	return f.pipe(s.Ready.FD)
}

// launch starts the program with these files.
func (l *Linux) launch(s *Spec, f files, p *process) error {
	attr := &syscall.ProcAttr{
		Dir:   s.Dir,
		Env:   l.environment(s),
		Files: f.numbers(),
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: s.TTY != ""},
	}
	if s.UID != 0 || s.GID != 0 || len(s.Groups) > 0 {
		attr.Sys.Credential = &syscall.Credential{Uid: s.UID, Gid: s.GID, Groups: s.Groups}
	}
	group, err := newCgroup(l.Cgroup, s.Name, s.Limits)
	if err != nil {
		l.Logger.Warnf("%s: %v", s.Name, err)
	}
	if p.pid, p.group, err = l.fork(s, attr, group); err != nil {
		return fmt.Errorf("start %s: %w", s.Exec, err)
	}
	return nil
}

// fork starts the process with its OOM score, which a child inherits: no later moment would be early enough.
func (l *Linux) fork(s *Spec, attr *syscall.ProcAttr, group cgroup) (pid int, in cgroup, err error) {
	const self = "/proc/self/oom_score_adj"
	if own, err := os.ReadFile(self); err == nil {
		if err := os.WriteFile(self, []byte(strconv.Itoa(s.OOMScore)), 0); err != nil {
			l.Logger.Warnf("%s: oom-score: %v", s.Name, err)
		}
		defer func() { _ = os.WriteFile(self, own, 0) }() // it was that before
	}
	argv := append([]string{s.Exec}, s.Args...)
	if group != "" {
		dir, err := unix.Open(string(group), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(dir)
			attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, dir
			pid, err = syscall.ForkExec(s.Exec, argv, attr)
		}
		if !oldClone(err) {
			return pid, group, err
		}
		attr.Sys.UseCgroupFD = false
		l.Logger.Warnf("%s: without a cgroup: %v", s.Name, err)
	}
	pid, err = syscall.ForkExec(s.Exec, argv, attr)
	return pid, "", err
}

// oldClone reports whether err may be that of a kernel before 5.7, which cannot start a child in a cgroup: it has no clone3, or one
// with fewer arguments, or does not know this flag.
func oldClone(err error) bool {
	errno, _ := err.(syscall.Errno)
	switch errno {
	case unix.ENOSYS, unix.EOPNOTSUPP, unix.E2BIG, unix.EINVAL:
		return true
	}
	return false
}

// environment returns what the program sees: what the image says, and PATH and TERM if it does not say them.
func (l *Linux) environment(s *Spec) []string {
	env := []string{"PATH=" + l.Path}
	if s.TTY != "" && l.Term != "" {
		env = append(env, "TERM="+l.Term)
	}
	env = slices.DeleteFunc(env, func(kv string) bool {
		return slices.ContainsFunc(s.Env, func(own string) bool { return strings.HasPrefix(own, kv[:strings.IndexByte(kv, '=')+1]) })
	})
	return append(env, s.Env...)
}

// standard opens the standard files of a service.
func (l *Linux) standard(s *Spec, f *files, p *process) error {
	if s.TTY != "" {
		tty, err := l.terminal(s.TTY)
		(*f)[0], (*f)[1], (*f)[2] = tty, tty, tty
		return err
	}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	(*f)[0], (*f)[1], (*f)[2] = null, null, null
	var to sink
	switch s.Log {
	case LogNone:
		return nil
	case Console:
		(*f)[1], (*f)[2] = consoleFD, consoleFD
		return nil
	case LogKmsg:
		to = &kmsgSink{name: s.Name, log: l.Logger}
	default:
		to = &fileSink{path: s.Log, most: s.LogSize, log: l.Logger}
	}
	ring := l.rings[s.Name]
	if ring == nil {
		return errors.New("not prepared")
	}
	r, err := f.pipe(1)
	if err != nil {
		return err
	}
	(*f)[2] = (*f)[1]
	p.output = &output{pipe: r, ring: ring, to: to}
	return nil
}

// consoleFD is what this process has as its own standard output.
const consoleFD = 1

// files are the descriptors that a child gets, in their order; -1 is one that is closed in it.
type files []int

// pipe makes the end of a pipe that is written to number n, and returns the other one.
func (f *files) pipe(n int) (*os.File, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	for len(*f) <= n {
		*f = append(*f, -1)
	}
	(*f)[n] = p[1]
	_ = unix.SetNonblock(p[0], true) // this end alone: programs do not expect it of theirs
	return os.NewFile(uintptr(p[0]), "output"), nil
}

func (f files) numbers() []uintptr {
	numbers := make([]uintptr, len(f))
	for i, fd := range f {
		numbers[i] = uintptr(fd)
	}
	return numbers
}

// closeAll closes this process's copies.
func (f files) closeAll() {
	slices.Sort(f)
	for _, fd := range slices.Compact(f) {
		if fd > 2 {
			unix.Close(fd)
		}
	}
}

// await calls ready when a line has come, or when the pipe ends after something has.
func await(said *os.File, ready func()) {
	defer said.Close()
	var buf [64]byte
	some := false
	for {
		n, err := said.Read(buf[:])
		some = some || n > 0
		if strings.IndexByte(string(buf[:n]), '\n') >= 0 || err != nil && some {
			ready()
			return
		}
		if err != nil {
			return
		}
	}
}

func (p *process) Pid() int { return p.pid }

// Signal also wakes what is stopped, so that it can act on the signal.
func (p *process) Signal(sig unix.Signal) {
	_ = unix.Kill(-p.pid, sig)
	if sig != unix.SIGKILL {
		_ = unix.Kill(-p.pid, unix.SIGCONT)
	}
}

func (p *process) Kill() {
	p.since = time.Now()
	if p.group != "" && p.group.kill() == nil {
		return
	}
	_ = unix.Kill(-p.pid, unix.SIGKILL)
}

// outputPatience is how long the pipe of a service may stay open when its processes have gone.
const outputPatience = time.Second

func (p *process) Gone() bool {
	if p.group != "" {
		if p.group.populated() {
			_ = p.group.kill() // what has been forked meanwhile, on a kernel that cannot kill all at once
			return false
		}
	} else if unix.Kill(-p.pid, 0) == nil {
		return false
	}
	if p.output == nil || p.output.done.Load() {
		return true
	}
	if time.Since(p.since) > outputPatience {
		p.output.expire()
	}
	return false
}
