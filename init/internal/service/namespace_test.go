package service

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/klog"
	"hapax/tests/need"
)

const partEnv = "TEST_SERVICE_PART"

// The test binary plays three parts: the test; PID 1 of a pid namespace of its own, with the real System and a loop as that of
// the guard; and the services that this one starts, by the name in argv[1].
func TestMain(m *testing.M) {
	switch part := os.Getenv(partEnv); {
	case len(os.Args) > 2 && os.Args[1] == "service":
		play(os.Args[2:])
	case part != "" && os.Getpid() == 1:
		newPid1().play(part)
	default:
		os.Exit(m.Run())
	}
}

// play is a service.
func play(args []string) {
	switch args[0] {
	case "show": // what it finds
		wd, _ := os.Getwd()
		oom, _ := os.ReadFile("/proc/self/oom_score_adj")
		sid, _ := unix.Getsid(0)
		groups, _ := os.Getgroups()
		_, err := unix.IoctlGetTermios(0, unix.TCGETS)
		fmt.Printf("show uid %d gid %d groups %v dir %s oom %s leader %v args %q env %q tty %v\n", os.Getuid(), os.Getgid(), groups,
			wd, strings.TrimSpace(string(oom)), sid == os.Getpid(), args[1:], os.Environ(), err == nil)
	case "control": // what terminal it has, and what it reads from it
		sid, err := unix.IoctlGetInt(0, unix.TIOCGSID)
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		fmt.Printf("controls %v, %v, TERM %s, read %q\n", sid == os.Getpid(), err, os.Getenv("TERM"), line)
	case "say": // on a descriptor, late
		time.Sleep(20 * time.Millisecond)
		fd, _ := strconv.Atoi(args[1])
		_, _ = unix.Write(fd, []byte("ready\n"))
		select {}
	case "listen":
		time.Sleep(20 * time.Millisecond)
		if _, err := net.Listen(args[1], args[2]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		select {}
	case "write": // a file, when another is there
		for unix.Access(args[1], 0) != nil {
			time.Sleep(time.Millisecond)
		}
		_ = os.WriteFile(args[2], nil, 0o644)
		select {}
	case "exit":
		code, _ := strconv.Atoi(args[1])
		os.Exit(code)
	case "family": // with a child and a grandchild, each of which hears nothing, by cgroup in a session of its own
		signal.Ignore(unix.SIGTERM)
		if generation := len(args); generation < 3 {
			c := exec.Command(os.Args[0], append([]string{"service"}, append(args, "child")...)...)
			c.Stdout = os.Stdout
			c.SysProcAttr = &syscall.SysProcAttr{Setsid: os.Getenv("CGROUP") != ""}
			_ = c.Start()
		}
		if dir := os.Getenv("GROUP"); dir != "" { // groups of its own, as a container runtime has them
			_ = os.MkdirAll(dir+"/sub/sub", 0o755)
		}
		fmt.Println("family", len(args))
		select {}
	}
}

// A node1 is PID 1 of the namespace.
type node1 struct {
	m        *Manager
	signals  chan os.Signal
	statuses map[int]unix.WaitStatus // of main processes
	reaped   int
}

func newPid1() *node1 {
	n := &node1{signals: make(chan os.Signal, 1), statuses: map[int]unix.WaitStatus{}}
	signal.Notify(n.signals, unix.SIGCHLD)
	must(unix.CloseRange(3, 1<<16, unix.CLOSE_RANGE_CLOEXEC)) // what this test has inherited itself
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(unix.Mount("proc", "/proc", "proc", 0, ""))
	must(unix.Mount("x", "/mnt", "tmpfs", 0, ""))
	return n
}

func must(err error) {
	if err != nil {
		fmt.Println("pid 1:", err)
		os.Exit(1)
	}
}

// manage makes the Manager for services, whose program is this one.
func (n *node1) manage(specs ...Spec) {
	for i := range specs {
		s := newSpec(specs[i].Name)
		if specs[i].Exec == "" {
			specs[i].Exec, specs[i].Args = "/proc/self/exe", append([]string{"service"}, specs[i].Args...)
		}
		specs[i].StopSignal = s.StopSignal
		if specs[i].Log == "" {
			specs[i].Log = s.Log
		}
	}
	must(check(specs))
	l := &Linux{Logger: klog.New(os.Stdout, cmdline.Warn), Path: "/bin", Term: "vt100", Console: func() string { return "/dev/tty" }, Cgroup: os.Getenv("CGROUP")}
	l.Prepare(specs)
	n.m = New(specs, l, l.Logger)
}

// until is the loop of the guard, up to a condition.
func (n *node1) until(what string, done func() bool) {
	limit := time.After(2 * time.Minute)
	look := time.NewTicker(5 * time.Millisecond) // at what no event tells
	defer look.Stop()
	for !done() {
		select {
		case <-look.C:
		case <-n.signals:
			n.reap()
		case <-n.m.Due():
			n.m.Tick()
		case f := <-n.m.Work():
			f()
		case <-limit:
			fmt.Printf("pid 1: no %s: %+v\n", what, n.m.status(""))
			os.Exit(1)
		}
	}
}

func (n *node1) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err != nil && err != unix.EINTR || pid <= 0 {
			return
		}
		if n.reaped++; n.m.Ended(pid, status) {
			n.statuses[pid] = status
		}
	}
}

func (n *node1) state(name string) State { return n.m.find(name).state }

func (n *node1) play(part string) {
	switch part {
	case "show":
		n.manage(Spec{Name: "a", Oneshot: true, Args: []string{"show", "one", "two words"}, Env: []string{"A=1"}, Dir: "/tmp", UID: 7, GID: 8,
			Groups: []uint32{9}, OOMScore: 300}, Spec{Name: "b", Oneshot: true, Args: []string{"show"}, Dir: "/", Env: []string{"PATH=/x"},
			Log: os.Getenv("LOGFILE")}, Spec{Name: "fds", Exec: "/bin/ls", Args: []string{"/proc/self/fd"}, Oneshot: true})
		n.m.Start()
		n.until("end", func() bool { return n.state("a") == Done && n.state("b") == Done && n.state("fds") == Done })
		fmt.Printf("fds %q\n", n.m.sys.Log("fds"))
		oom, _ := os.ReadFile("/proc/self/oom_score_adj")
		fmt.Printf("kept %sown oom %s", n.m.sys.Log("b"), oom)
	case "ready":
		must(os.WriteFile("/mnt/left", nil, 0o644))
		n.manage(
			Spec{Name: "left", Args: []string{"write", "/mnt/go", "/mnt/left"}, Ready: Ready{Kind: ReadyFile, Path: "/mnt/left"}},
			Spec{Name: "fd", Args: []string{"say", "5"}, Ready: Ready{Kind: ReadyFD, FD: 5}},
			Spec{Name: "tcp", Args: []string{"listen", "tcp", "127.0.0.1:1234"}, Ready: Ready{Kind: ReadyTCP, Port: 1234}},
			Spec{Name: "unix", Args: []string{"listen", "unix", "/mnt/socket"}, Ready: Ready{Kind: ReadySocket, Path: "/mnt/socket"}},
			Spec{Name: "tcp6", Args: []string{"listen", "tcp6", "[::]:1235"}, Ready: Ready{Kind: ReadyTCP, Port: 1235}},
			Spec{Name: "file", Args: []string{"listen", "unix", "/mnt/file"}, Ready: Ready{Kind: ReadyFile, Path: "/mnt/file"}},
			Spec{Name: "last", Args: []string{"exit", "0"}, Oneshot: true, After: []string{"fd", "tcp", "unix", "tcp6", "file", "left"}})
		n.m.Start()
		for _, name := range []string{"fd", "tcp", "unix", "tcp6", "file"} {
			if n.state(name) != Starting {
				fmt.Println(name, "is ready at once")
			}
		}
		begun := time.Now()
		n.until("several looks", func() bool { return time.Since(begun) > 100*time.Millisecond })
		if n.state("left") != Starting {
			fmt.Println("left is ready by what another process has left")
		}
		must(os.WriteFile("/mnt/go", nil, 0o644))
		n.until("last", func() bool { return n.state("last") == Done })
		fmt.Println("ready")
	case "terminal":
		n.terminal()
	case "storm":
		n.storm()
	case "family":
		n.family()
	}
	os.Exit(0)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// processes counts those of the namespace beside PID 1, zombies too.
func processes() int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	return len(dirs) - 1
}

// terminal gives a service a pseudo-terminal that its last user has left without echo and lines.
func (n *node1) terminal() {
	keys, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	must(err)
	must(unix.IoctlSetPointerInt(keys, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(keys, unix.TIOCGPTN)
	must(err)
	raw, err := unix.IoctlGetTermios(keys, unix.TCGETS)
	must(err)
	raw.Lflag, raw.Oflag = 0, 0
	must(unix.IoctlSetTermios(keys, unix.TCSETS, raw))
	n.manage(Spec{Name: "x", Oneshot: true, Args: []string{"control"}, TTY: fmt.Sprint("/dev/pts/", number)})
	n.m.Start()
	_, err = unix.Write(keys, []byte("typed\n"))
	must(err)
	n.until("end", func() bool { return n.state("x") == Done })
	var shown [4096]byte
	length, err := unix.Read(keys, shown[:])
	must(err)
	fmt.Printf("shown %q\n", shown[:length])
}

// storm starts many short services side by side, over and over, while others ask for their status.
func (n *node1) storm() {
	const services = 50
	starts, _ := strconv.Atoi(os.Getenv("STARTS"))
	var specs []Spec
	for i := range services {
		specs = append(specs, Spec{Name: fmt.Sprint("s", i), Restart: Always, Args: []string{"exit", fmt.Sprint(i)}, StopTimeout: time.Minute})
	}
	n.manage(specs...)
	var asking sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for range 4 {
		asking.Go(func() {
			for {
				if _, err := n.m.Status(ctx, "s1"); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	n.m.Start()
	n.until("that many starts", func() bool { return n.reaped >= starts })
	end := n.m.Stop()
	n.until("end", func() bool { return closed(end) })
	cancel()
	asking.Wait()
	wrong := 0
	for _, status := range n.statuses {
		if !status.Exited() && status.Signal() != unix.SIGTERM || status.Exited() && status.ExitStatus() >= services {
			wrong++
		}
	}
	for i, u := range n.m.units {
		if u.ended != fmt.Sprint("exit status ", i) && u.ended != "signal SIGTERM" {
			wrong++
		}
	}
	fmt.Printf("storm: enough %v, wrong %d, left %d\n", n.reaped >= starts, wrong, processes())
}

// inNamespace runs a part as PID 1, and returns what it prints.
func inNamespace(t *testing.T, part string, env ...string) []string {
	t.Helper()
	need.Root(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(append(os.Environ(), partEnv+"="+part), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	scanner := bufio.NewScanner(io.LimitReader(out, 1<<20))
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, strings.Join(lines, "\n"))
	}
	return lines
}

// What a program finds when it is started is what its service says, and nothing of PID 1.
func TestProgramFinds(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "b.log")
	lines := inNamespace(t, "show", "LOGFILE="+file, "SECRET=1")
	a := `<30>a: show uid 7 gid 8 groups [9] dir /tmp oom 300 leader true args ["one" "two words"] env ["PATH=/bin" "A=1"] tty false`
	if !slices.Contains(lines, a) {
		t.Errorf("printed %q, want %q", lines, a)
	}
	b := `show uid 0 gid 0 groups [] dir / oom 0 leader true args [] env ["PATH=/x"] tty false`
	if got, err := os.ReadFile(file); err != nil || string(got) != b+"\n" {
		t.Errorf("log file %q, %v, want %q", got, err, b)
	}
	if fds := `fds "0\n1\n2\n3\n"`; !slices.Contains(lines, fds) { // the last one is that of the folder
		t.Errorf("printed %q, want %s", lines, fds)
	}
	if !slices.Contains(lines, "kept "+b) || !slices.Contains(lines, "own oom 0") {
		t.Errorf("printed %q", lines)
	}
}

// A service with a terminal controls it, and finds it as it should be.
func TestTerminal(t *testing.T) {
	t.Parallel()
	want := `shown "typed\r\ncontrols true, <nil>, TERM vt100, read \"typed\\n\"\r\n"`
	if lines := inNamespace(t, "terminal"); !slices.Contains(lines, want) {
		t.Errorf("printed %q, want %s", lines, want)
	}
}

// Each kind of readiness is seen, and none too early.
func TestReadyKinds(t *testing.T) {
	t.Parallel()
	if lines := inNamespace(t, "ready"); !slices.Equal(lines, []string{"ready"}) {
		t.Errorf("printed %q", lines)
	}
}

// F4: of thousands of starts side by side no end is lost, and no exit status is that of another.
func TestF4Storm(t *testing.T) {
	t.Parallel()
	need.Long(t)
	starts := "500"
	lines := inNamespace(t, "storm", "STARTS="+starts)
	if n := len(lines); n == 0 || lines[n-1] != "storm: enough true, wrong 0, left 0" {
		t.Errorf("printed %q", lines[max(0, n-5):])
	}
}
