package guard

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/service"
	"hapax/tests/need"
)

// This test binary plays three more parts: tracer, which lets the n-th system
// call of a guard fail; stage, which makes an initramfs and a root of namespaces
// and becomes that guard; and the init of the root.

const (
	marker   = 1 << 29         // kill(2) to this process begins the count
	patience = 3 * time.Second // for a boot that may have failed half way
)

// playStage makes what the kernel and an image give, and executes itself there.
func playStage(base string) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		panic(err)
	}
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	mount := func(source, target, fstype string, flags uintptr) {
		must(unix.Mount(source, target, fstype, flags, ""))
	}
	program := func(path string) {
		must(os.WriteFile(path, nil, 0o755))
		mount(self, path, "", unix.MS_BIND)
	}
	mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE)
	mount("initramfs", base, "tmpfs", 0)
	must(os.Mkdir(base+"/sysroot", 0o755))
	must(os.Mkdir(base+"/dev", 0o755))
	program(base + "/init")
	mount("root", base+"/sysroot", "tmpfs", 0)
	must(os.Mkdir(base+"/sysroot/sbin", 0o755))
	program(base + "/sysroot/sbin/init")
	must(unix.Chdir(base))
	mount(".", "/", "", unix.MS_MOVE)
	must(unix.Chroot("."))
	must(unix.Chdir("/"))
	must(unix.Exec("/init", []string{"/init"}, []string{"TEST_ENGINE=boot", "TEST_NTH=guard"}))
}

// spared reports whether a call is not made to fail: the Go runtime's own, which
// end the process if they do, and those that no kernel fails.
func spared(tid int, r *unix.PtraceRegs) bool {
	switch r.Orig_rax {
	case unix.SYS_FUTEX, unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK,
		unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_CLONE, unix.SYS_CLONE3, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_NANOSLEEP,
		unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_EVENTFD2, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY,
		unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_TGKILL, unix.SYS_ARCH_PRCTL, unix.SYS_PRCTL, unix.SYS_RSEQ, unix.SYS_SET_ROBUST_LIST,
		unix.SYS_RESTART_SYSCALL, unix.SYS_EXECVE, unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE,
		unix.SYS_CLOSE:
		return true
	case unix.SYS_READ, unix.SYS_WRITE: // the poller's own descriptor, and the pipe by which a fork tells of its execve
		link, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(r.Rdi)))
		return strings.Contains(link, "eventfd") || r.Orig_rax == unix.SYS_READ && strings.HasPrefix(link, "pipe:")
	}
	return false
}

// A tracer lets one system call of a process fail.
type tracer struct {
	nth   int
	errno unix.Errno

	pid      int
	counting bool
	count    int
	inside   map[int]bool // threads that are in a system call
	failing  map[int]bool // and are to find that it has failed
	fired    uint64       // the call, plus one; 0: none yet
}

// playTracer traces a guard, whose n-th call fails with errno, and prints what
// became of it.
func playTracer(base, nth, errno string) {
	runtime.LockOSThread() // all requests have to come from the thread that forked
	n, _ := strconv.Atoi(nth)
	e, _ := strconv.Atoi(errno)
	tr := &tracer{nth: n, errno: unix.Errno(e), inside: map[int]bool{}, failing: map[int]bool{}}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"stage", base}, &syscall.ProcAttr{
		Env: []string{"TEST_NTH=stage"}, Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Ptrace: true, Pdeathsig: unix.SIGKILL},
	})
	if err != nil {
		panic(err)
	}
	tr.pid = pid
	time.AfterFunc(patience, func() { _ = unix.Kill(pid, unix.SIGTERM) })
	time.AfterFunc(20*patience, func() { _ = unix.Kill(pid, unix.SIGKILL) })
	fmt.Printf("tracer: %s; failed %s\n", tr.run(), tr.call())
	os.Exit(0)
}

func (tr *tracer) call() string {
	if tr.fired == 0 {
		return "nothing"
	}
	return "system call " + strconv.Itoa(int(tr.fired-1))
}

// run traces until the end of the process, and describes that.
func (tr *tracer) run() string {
	var status unix.WaitStatus
	if _, err := unix.Wait4(tr.pid, &status, unix.WALL, nil); err != nil {
		return err.Error()
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL
	if err := unix.PtraceSetOptions(tr.pid, options); err != nil {
		return err.Error()
	}
	for tid := tr.pid; ; {
		_ = unix.PtraceSyscall(tid, tr.stopped(tid, status))
		var err error
		for {
			if tid, err = unix.Wait4(-1, &status, unix.WALL, nil); err == nil || err != unix.EINTR {
				break
			}
		}
		switch {
		case err != nil:
			return err.Error()
		case tid == tr.pid && (status.Exited() || status.Signaled()):
			return service.Describe(status)
		}
	}
}

// stopped acts on a stop of a thread and returns the signal that it is to get.
func (tr *tracer) stopped(tid int, status unix.WaitStatus) (sig int) {
	const syscallStop = unix.SIGTRAP | 0x80
	switch {
	case !status.Stopped(), status.StopSignal() == unix.SIGTRAP:
		if status.TrapCause() == unix.PTRACE_EVENT_EXEC {
			tr.inside, tr.counting = map[int]bool{tr.pid: true}, false // what follows is another program
		}
		return 0
	case status.StopSignal() == unix.SIGSTOP: // a new thread
		return 0
	case status.StopSignal() != syscallStop:
		return int(status.StopSignal())
	}
	tr.inside[tid] = !tr.inside[tid]
	var r unix.PtraceRegs
	if unix.PtraceGetRegs(tid, &r) != nil {
		return 0
	}
	switch {
	case !tr.inside[tid] && tr.failing[tid]:
		tr.failing[tid] = false
		r.Rax = uint64(-int64(tr.errno))
		_ = unix.PtraceSetRegs(tid, &r)
	case tr.inside[tid] && r.Orig_rax == unix.SYS_KILL && r.Rdi == marker:
		tr.counting = true
	case tr.inside[tid] && tr.counting && !spared(tid, &r):
		if tr.count++; tr.count == tr.nth {
			tr.fired, tr.failing[tid] = r.Orig_rax+1, true
			r.Orig_rax = ^uint64(0)
			_ = unix.PtraceSetRegs(tid, &r)
		}
	}
	return 0
}

// TestE9NthCallFails boots a root in namespaces again and again, and lets the
// first, the second and each further system call of PID 1 fail once, until there
// are no more. Each time the boot comes to its end, or PID 1 lives and ends the
// machine when it is told to.
func TestE9NthCallFails(t *testing.T) {
	need.Root(t)
	need.Long(t)
	errnos, step := []unix.Errno{unix.ENOMEM}, 7
	if need.Full() {
		errnos, step = []unix.Errno{unix.ENOMEM, unix.EMFILE, unix.ENOSPC, unix.EIO, unix.EACCES}, 1
	}
	program := static(t)
	for _, errno := range errnos {
		t.Run(unix.ErrnoName(errno), func(t *testing.T) {
			t.Parallel()
			ends := map[string]int{}
			n := 1
			for ; ; n += step {
				end, call, output := nth(t, program, n, errno)
				if call == "nothing" {
					break
				}
				switch {
				case strings.Contains(output, "new init: up"): // whose own end does not matter
					ends["the root's init runs"]++
				case end == "signal SIGHUP":
					ends["PID 1 has rebooted when told to"]++
				default:
					t.Errorf("%s fails with %v: call %d: %s\n%s", call, errno, n, end, output)
				}
			}
			t.Logf("%d calls: %v", n-1, ends)
			if n < 50 {
				t.Errorf("only %d calls were seen", n)
			}
		})
	}
}

// static returns this test program as /init is built: under the race detector it needs libraries, which the stage has not.
func static(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "guard.test")
	cmd := exec.Command("go", "test", "-c", "-o", program, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// nth runs one boot.
func nth(t *testing.T, program string, n int, errno unix.Errno) (end, call, output string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(program, t.TempDir(), strconv.Itoa(n), strconv.Itoa(int(errno)))
	cmd.Env = []string{"TEST_NTH=tracer"}
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Run(); err != nil {
		t.Fatalf("tracer: %v\n%s", err, out.String())
	}
	before, last, ok := strings.Cut(out.String(), "tracer: ")
	end, call, ok2 := strings.Cut(strings.TrimSpace(last), "; failed ")
	if !ok || !ok2 {
		t.Fatalf("the tracer has said:\n%s", out.String())
	}
	return end, call, before
}

// playNth plays the part that TEST_NTH names, if there is one.
func playNth(part string, args []string, out outside) {
	switch part {
	case "tracer":
		playTracer(args[1], args[2], args[3])
	case "stage":
		playStage(args[1])
	case "guard":
		if os.Args[0] != "/init" {
			fmt.Println("new init: up")
			os.Exit(0)
		}
		_ = unix.Kill(marker, 0)
		os.Exit(run(nil, out))
	}
}
