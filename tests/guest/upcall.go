package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hapax/tests/internal/guest"
)

// upcall carries out the commands of upcall.go in package guest.
func upcall(command, argument string) (any, error) {
	switch command {
	case guest.Open, guest.Mount, guest.Socket, guest.Alg, guest.Link, guest.Match, guest.Remove:
		return act(command + " " + argument)
	case guest.Exec:
		return execute(strings.Fields(argument))
	case guest.Write:
		path, text, _ := strings.Cut(argument, " ")
		return nil, os.WriteFile(path, []byte(text), 0o644)
	case guest.Chmod:
		return nil, os.Chmod(argument, 0o755)
	case guest.Rename:
		from, to, _ := strings.Cut(argument, " ")
		return nil, os.Rename(from, to)
	case guest.Burst:
		return burst(argument)
	case guest.Rounds:
		return rounds(argument)
	case guest.Laps:
		return laps(argument)
	case guest.Killing:
		return killing(argument)
	case guest.Pids:
		return processes(argument)
	case guest.Asked:
		return asked()
	}
	return nil, errors.New("no such command")
}

// act does one act and returns the name of its errno. Others than errnos are errors: the act was not done.
func act(line string) (string, error) {
	do, err := readied(line)
	if err != nil {
		return "", err
	}
	return errnoName(do())
}

func errnoName(err error) (string, error) {
	var errno unix.Errno
	switch {
	case err == nil:
		return "0", nil
	case errors.As(err, &errno):
		return unix.ErrnoName(errno), nil
	}
	return "", err
}

// readied returns the system call that an act consists of.
func readied(line string) (do func() error, err error) {
	f := strings.Fields(line)
	if len(f) < 2 {
		return nil, fmt.Errorf("%q is no act", line)
	}
	switch {
	case f[0] == guest.Open && len(f) == 2:
		path, err := node(f[1])
		return func() error { return open(path) }, err
	case f[0] == guest.Mount && len(f) == 4:
		return func() error { return unix.Mount(f[2], f[3], f[1], unix.MS_RDONLY, "") }, os.MkdirAll(f[3], 0o755)
	case f[0] == guest.Socket && len(f) == 4:
		var n [3]int
		for i := range n {
			if n[i], err = strconv.Atoi(f[1+i]); err != nil {
				return nil, err
			}
		}
		return func() error { return closed(unix.Socket(n[0], n[1]|unix.SOCK_CLOEXEC, n[2])) }, nil
	case f[0] == guest.Alg && len(f) == 3:
		return func() error { return bindAlg(f[1], f[2]) }, nil
	case f[0] == guest.Link && len(f) == 3:
		return func() error { return newLink(f[1], f[2]) }, nil
	case f[0] == guest.Match && len(f) == 2:
		return func() error { return matchRevision(f[1]) }, nil
	case f[0] == guest.Remove && len(f) == 2:
		return func() error { return engineRemove(f[1]) }, nil
	}
	return nil, fmt.Errorf("%q is no act", line)
}

// node returns the path of what open is to open.
func node(name string) (string, error) {
	major, minor, ok := strings.Cut(name, ":")
	if !ok {
		return name, nil
	}
	a, err := strconv.ParseUint(major, 10, 12)
	b, err2 := strconv.ParseUint(minor, 10, 20)
	if err := errors.Join(err, err2); err != nil {
		return "", err
	}
	path := filepath.Join("/tmp", "node-"+major+"-"+minor)
	err = unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(uint32(a), uint32(b))))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return "", err
	}
	return path, nil
}

func open(path string) error {
	return closed(unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0))
}

func closed(fd int, err error) error {
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

// bindAlg binds a socket of AF_ALG to an algorithm.
func bindAlg(kind, name string) error {
	fd, err := unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrALG{Type: kind, Name: name})
}

// execute runs a program. One that cannot be started is an error.
func execute(argv []string) (guest.Ended, error) {
	if len(argv) == 0 {
		return guest.Ended{}, errors.New("no program named")
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	if err != nil {
		return guest.Ended{}, err
	}
	return guest.Ended{Code: cmd.ProcessState.ExitCode(), Output: string(out)}, nil
}

// burst does many acts at the same instant, each by a thread of its own.
func burst(argument string) (map[string]int, error) {
	count, list, _ := strings.Cut(argument, " ")
	n, err := strconv.Atoi(count)
	if err != nil {
		return nil, err
	}
	acts := strings.Split(list, ";")
	dos := make([]func() error, n)
	for i := range dos {
		if dos[i], err = readied(acts[i%len(acts)]); err != nil {
			return nil, err
		}
	}
	return together(dos)
}

// together calls all functions at the same instant and counts their results.
func together(dos []func() error) (map[string]int, error) {
	var (
		ready, done sync.WaitGroup
		begin       = make(chan struct{})
		mu          sync.Mutex
		results     = map[string]int{}
		strange     error
	)
	ready.Add(len(dos))
	for _, do := range dos {
		done.Go(func() {
			runtime.LockOSThread()
			ready.Done()
			<-begin
			err := do()
			mu.Lock()
			defer mu.Unlock()
			if name, err := errnoName(err); err == nil {
				results[name]++
			} else {
				strange = err
			}
		})
	}
	ready.Wait()
	close(begin)
	done.Wait()
	return results, strange
}

// rounds removes a module and has it asked for from all sides, again and again.
func rounds(argument string) (map[string]int, error) {
	f := strings.SplitN(argument, " ", 5)
	if len(f) < 5 {
		return nil, fmt.Errorf("rounds %q: want N K MODULE UEVENT ACT", argument)
	}
	n, err := strconv.Atoi(f[0])
	k, err2 := strconv.Atoi(f[1])
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	do, err := readied(f[4])
	if err != nil {
		return nil, err
	}
	dos := []func() error{func() error { return os.WriteFile(f[3], []byte("add"), 0) }}
	for range k {
		dos = append(dos, do)
	}
	all := map[string]int{}
	for range n {
		if err := engineRemove(f[2]); err != nil {
			return all, fmt.Errorf("remove %s: %w", f[2], err)
		}
		results, err := together(dos)
		if err != nil {
			return all, err
		}
		for name, times := range results {
			all[name] += times
		}
	}
	return all, nil
}

// engineRemove asks the engine to remove a module, as its protocol in init/internal/control says.
func engineRemove(module string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: "/run/hapax/control"}); err != nil {
		return err
	}
	if err := unix.Send(fd, []byte("hapax/1\x00remove\x00name="+module), unix.MSG_NOSIGNAL); err != nil {
		return err
	}
	buf := make([]byte, 16<<10)
	var size int
	for {
		if size, err = unix.Read(fd, buf); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(buf[:size]), "end\x00\x00") {
		return unix.EAGAIN
	}
	return nil
}

// laps does an act again and again and returns the time that each took.
func laps(argument string) ([]time.Duration, error) {
	count, line, _ := strings.Cut(argument, " ")
	n, err := strconv.Atoi(count)
	if err != nil {
		return nil, err
	}
	do, err := readied(line)
	if err != nil {
		return nil, err
	}
	took := make([]time.Duration, n)
	for i := range took {
		begun := monotonic()
		_ = do() // it fails, for the module brings no device
		took[i] = monotonic() - begun
	}
	return took, nil
}

// killing begins a burst and kills all processes of a name in the middle of it.
func killing(argument string) (k guest.Killed, err error) {
	f := strings.SplitN(argument, " ", 3)
	if len(f) < 3 {
		return k, fmt.Errorf("killing %q: want MILLISECONDS NAME BURST", argument)
	}
	ms, err := strconv.Atoi(f[0])
	if err != nil {
		return k, err
	}
	var burstErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.Acts, burstErr = burst(f[2])
	}()
	time.Sleep(time.Duration(ms) * time.Millisecond)
	pids, err := processes(f[1])
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err == nil { // else it has ended
			k.Processes++
		}
	}
	<-done
	return k, errors.Join(err, burstErr)
}

// processes returns the ids of the processes of a name. One that is ending has none.
func processes(name string) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	pids := []int{}
	for _, file := range files {
		line, err := os.ReadFile(file)
		argv0, _, _ := strings.Cut(string(line), "\x00")
		if err != nil || filepath.Base(argv0) != name {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, err
}

func asked() (guest.Asks, error) {
	f, err := openTrace()
	if err != nil {
		return guest.Asks{}, err
	}
	defer f.Close()
	return guest.ParseAsks(f)
}
