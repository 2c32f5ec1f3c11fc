package tests

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/tests/internal/guest"
	"hapax/tests/need"
)

// What PID 1 and its engine may take (reliability.md F8, F9, F10).
const (
	maxGuardRSS     = 4 << 10  // KiB
	maxGuardThreads = 12       //
	maxEnginePeak   = 16 << 10 // KiB
	maxGrowth       = 1 << 10  // KiB, over any number of events
	maxWakeups      = 1.0      // a second, of each, with nothing to do
)

// A status is what a test wants of /proc/PID/status.
type status struct {
	rss, peak int // KiB
	threads   int
}

func readStatus(text string) status {
	field := func(name string) int {
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(line, name+":"); ok {
				n, _ := strconv.Atoi(strings.Fields(value)[0])
				return n
			}
		}
		return 0
	}
	return status{rss: field("VmRSS"), peak: field("VmHWM"), threads: field("Threads")}
}

func (s status) String() string {
	return fmt.Sprintf("%d KiB (at most %d) in %d threads", s.rss, s.peak, s.threads)
}

// rootEnv has the test binary become PID 1 of the namespaces that it was started in, as /init below this folder.
const rootEnv = "HAPAX_TEST_INIT_ROOT"

// becomeInit is what TestMain does in the process that is to be the guard.
func becomeInit(root string) error {
	for _, dir := range []string{"proc", "sys", "dev", "run", "tmp", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Chroot(root), unix.Chdir("/")); err != nil {
		return err
	}
	return unix.Exec("/init", []string{"/init"}, nil)
}

func TestMain(m *testing.M) {
	if root := os.Getenv(rootEnv); root != "" {
		fmt.Fprintln(os.Stderr, becomeInit(root))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// startInit runs bin/init as PID 1 in user, PID, mount and network namespaces of its own, whose user namespace keeps it from
// this machine's settings and device files, and waits until it has settled. It returns its pid and that of its engine as they are
// known here.
func startInit(t *testing.T) (guard, engine int) {
	t.Helper()
	need.Root(t)
	l, err := openLab()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Hapax(t.Context()); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	program, err := os.ReadFile(filepath.Join(l.Root, "bin/init"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "init"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), rootEnv+"="+root)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{Size: 1}}, GidMappings: []syscall.SysProcIDMap{{Size: 1}},
		Pdeathsig: unix.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, unix.EPERM) {
			need.Unmet(t, "this machine does not let root make a user namespace: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("what /init said:\n%s", out.Bytes()[max(0, out.Len()-4096):])
		}
	})
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/run/hapax/boot.json", cmd.Process.Pid)); err != nil {
			continue // which the engine writes when it has settled
		}
		for _, field := range children(cmd.Process.Pid) {
			name, _ := os.ReadFile("/proc/" + field + "/cmdline")
			if strings.HasPrefix(string(name), "hapax-engine") {
				pid, _ := strconv.Atoi(field)
				return cmd.Process.Pid, pid
			}
		}
	}
	t.Fatal("no engine within a minute")
	return 0, 0
}

// children returns the pids of the children of a process, whichever thread started them.
func children(pid int) []string {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var all []string
	for _, file := range files {
		b, _ := os.ReadFile(file) // the thread may have ended
		all = append(all, strings.Fields(string(b))...)
	}
	return all
}

// statusOf returns the status of a process of this machine.
func statusOf(t *testing.T, pid int) status {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	return readStatus(string(text))
}

// A flood sends uevents in the network namespace of a process, by way of the kernel, as it sends its own.
type flood struct {
	fd   int
	sent int
}

// floodOf returns a flood, whose methods are to be called by the calling goroutine alone: its thread has moved.
func floodOf(t *testing.T, pid int) *flood {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the runtime ends the thread with the goroutine
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ns)
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &flood{fd: fd}
}

// send sends n events of a thousand devices that come and go, and waits until they have been read.
func (f *flood) send(t *testing.T, n int) {
	t.Helper()
	for range n {
		i := f.sent
		f.sent++
		action := []string{"add", "remove"}[i/1000%2]
		path := fmt.Sprintf("/devices/virtual/flood/d%d", i%1000)
		text := action + "@" + path + "\x00ACTION=" + action + "\x00DEVPATH=" + path +
			fmt.Sprintf("\x00SUBSYSTEM=flood\x00MODALIAS=flood:t%d\x00", i%100)
		// The kernel takes a netlink message whose payload is the event, and appends the SEQNUM.
		msg := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(text)))
		msg = binary.NativeEndian.AppendUint16(msg, unix.NLMSG_MIN_TYPE)
		msg = binary.NativeEndian.AppendUint16(msg, unix.NLM_F_REQUEST)
		msg = append(append(msg, make([]byte, unix.NLMSG_HDRLEN-len(msg))...), text...)
		for {
			err := unix.Sendto(f.fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
			if err == nil {
				break
			}
			if !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) {
				t.Fatal(err)
			}
			f.drained(t)
		}
		if f.sent%2000 == 0 {
			f.drained(t)
		}
	}
	f.drained(t)
}

// drained waits until nobody in the namespace has anything unread.
func (f *flood) drained(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		text, err := os.ReadFile("/proc/thread-self/net/netlink")
		if err != nil {
			t.Fatal(err)
		}
		unread := 0
		for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
			// sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
			if f := strings.Fields(s.Text()); len(f) > 4 && f[1] == strconv.Itoa(unix.NETLINK_KOBJECT_UEVENT) {
				n, _ := strconv.Atoi(f[4])
				unread += n
			}
		}
		if unread == 0 {
			return
		}
	}
	t.Fatal("the engine does not read")
}

// TestFootprintIsFlat sends a flood of uevents, a million in make test-full, through the kernel to the engine: neither process
// grows by it, and both stay within their bounds.
func TestFootprintIsFlat(t *testing.T) {
	need.Long(t)
	n := 100_000
	if need.Full() {
		n = 1_000_000
	}
	guard, engine := startInit(t)
	f := floodOf(t, guard)
	f.send(t, 20_000) // what has to be allocated once is allocated
	g, e := statusOf(t, guard), statusOf(t, engine)
	f.send(t, n)
	g2, e2 := statusOf(t, guard), statusOf(t, engine)
	t.Logf("after %d events: guard %v, engine %v; before: %v, %v", n, g2, e2, g, e)
	if g2.rss-g.rss > maxGrowth || e2.peak-e.peak > maxGrowth {
		t.Errorf("guard grew by %d KiB, the engine's peak by %d, want at most %d", g2.rss-g.rss, e2.peak-e.peak, maxGrowth)
	}
	// How much of the file counts as the guard's is a matter of this machine's page cache; the bound holds in a guest.
	g2.rss = 0
	checkBounds(t, g2, e2)
}

func checkBounds(t *testing.T, guard, engine status) {
	t.Helper()
	if guard.rss > maxGuardRSS || guard.threads > maxGuardThreads {
		t.Errorf("guard: %v, want at most %d KiB and %d threads", guard, maxGuardRSS, maxGuardThreads)
	}
	if engine.peak > maxEnginePeak {
		t.Errorf("engine: %v, want at most %d KiB", engine, maxEnginePeak)
	}
}

// checkFootprint holds PID 1 and the engine of a guest that has settled to their bounds, and counts how often they wake while
// there is nothing to do.
func checkFootprint(t *testing.T, c guest.Client) {
	t.Helper()
	engine := engineOf(t, c)
	g, e := guestStatus(t, c, "1"), guestStatus(t, c, engine)
	begin, before := guestUptime(t, c), switches(t, c, "1", engine)
	time.Sleep(idleWatch)
	after, end := switches(t, c, "1", engine), guestUptime(t, c)
	for i, name := range []string{"guard", "engine"} {
		rate := float64(after[i]-before[i]) / (end - begin)
		if rate > maxWakeups {
			t.Errorf("the %s woke %d times in %.1f s with nothing to do, want at most %v a second", name, after[i]-before[i], end-begin, maxWakeups)
		}
	}
	t.Logf("guard %v, engine %v; woken %d and %d times in %.1f s", g, e, after[0]-before[0], after[1]-before[1], end-begin)
	checkBounds(t, g, e)
}

// idleWatch is how long a guest is watched while it has nothing to do.
const idleWatch = 15 * time.Second

// engineOf returns the pid of the engine of a guest.
func engineOf(t *testing.T, c guest.Client) string {
	t.Helper()
	for _, name := range ask[[]string](t, c, guest.List, "/proc") {
		if _, err := strconv.Atoi(name); err != nil {
			continue
		}
		var cmdline string
		if c.Ask(guest.Cat, "/proc/"+name+"/cmdline", &cmdline) == nil && strings.HasPrefix(cmdline, "hapax-engine") {
			return name
		}
	}
	t.Fatal("no engine")
	return ""
}

// guestStatus returns the status of a process of a guest. What is in memory is taken from smaps_rollup: in status, a kernel before
// 6.2 leaves out up to 64 pages of each thread.
func guestStatus(t *testing.T, c guest.Client, pid string) status {
	t.Helper()
	s := readStatus(ask[string](t, c, guest.Cat, "/proc/"+pid+"/status"))
	for line := range strings.Lines(ask[string](t, c, guest.Cat, "/proc/"+pid+"/smaps_rollup")) {
		if f := strings.Fields(line); f[0] == "Rss:" {
			s.rss, _ = strconv.Atoi(f[1])
		}
	}
	return s
}

// guestUptime returns the seconds since the guest's boot.
func guestUptime(t *testing.T, c guest.Client) float64 {
	t.Helper()
	text := ask[string](t, c, guest.Cat, "/proc/uptime")
	seconds, err := strconv.ParseFloat(strings.Fields(text)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return seconds
}

// switches returns how often the threads of each process have gone to sleep, but for the monitor of the Go runtime, which is
// the first one that a process makes: it sleeps for 20 µs at a time as long as another thread works, and with that one for ever.
func switches(t *testing.T, c guest.Client, pids ...string) []int {
	t.Helper()
	var all []int
	for _, pid := range pids {
		sum := 0
		tasks := ask[[]string](t, c, guest.List, "/proc/"+pid+"/task")
		slices.SortFunc(tasks, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
		for i, task := range tasks {
			if i == 1 {
				continue
			}
			for line := range strings.Lines(ask[string](t, c, guest.Cat, "/proc/"+pid+"/task/"+task+"/status")) {
				if n, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
					v, _ := strconv.Atoi(strings.TrimSpace(n))
					sum += v
				}
			}
		}
		all = append(all, sum)
	}
	return all
}
