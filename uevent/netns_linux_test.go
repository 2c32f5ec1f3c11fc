package uevent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/tests/need"
)

// childEnv marks the process in which TestNamespace runs its cases.
const childEnv = "UEVENT_TEST_CHILD"

// TestNamespace uses real sockets. Its cases run in a child with network and mount namespaces of its
// own, where only they cause events: writing to the uevent file of the child's loopback interface
// sends one to this network namespace alone.
func TestNamespace(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		need.Root(t)
		child := exec.Command("/proc/self/exe", "-test.run=^TestNamespace$", "-test.v")
		child.Env = append(os.Environ(), childEnv+"=1")
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
		out, err := child.CombinedOutput()
		if err != nil {
			t.Fatalf("child: %v\n%s", err, out)
		}
		return
	}
	trigger := newTrigger(t)
	t.Run("LargeBuffer", func(t *testing.T) { testLargeBuffer(t, trigger) })
	t.Run("SmallBuffer", func(t *testing.T) { testSmallBuffer(t, trigger) })
	t.Run("Flood", func(t *testing.T) { testFlood(t, trigger) })
	t.Run("Forged", func(t *testing.T) { testForged(t, trigger) })
	t.Run("CloseWhileBlocked", testCloseWhileBlocked)
	t.Run("Allocations", func(t *testing.T) { testAllocations(t, trigger) })
}

// A trigger makes the kernel send an event that carries n. The event is queued when it returns.
type trigger func(tb testing.TB, n int)

func newTrigger(t *testing.T) trigger {
	dir := t.TempDir()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("make the mounts private: %v", err)
	}
	if err := unix.Mount("sysfs", dir, "sysfs", 0, ""); err != nil {
		t.Fatalf("mount the sysfs of the namespace: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	file := dir + "/devices/virtual/net/lo/uevent"
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open %s: %v", file, err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func(tb testing.TB, n int) {
		line := "change 00000000-0000-0000-0000-000000000000 N=" + strconv.Itoa(n)
		if _, err := unix.Pwrite(fd, []byte(line), 0); err != nil {
			tb.Fatalf("write %q to %s: %v", line, file, err)
		}
	}
}

// number returns the n of the trigger that made e.
func number(e Event) (int, error) {
	value, _ := e.Var("SYNTH_ARG_N")
	n, err := strconv.Atoi(value)
	if err != nil || e.DevPath != "/devices/virtual/net/lo" || e.Subsystem != "net" || e.Action != Change {
		return 0, fmt.Errorf("unexpected event %+v", e)
	}
	return n, nil
}

// receive returns the number of the next event, or what Receive returns as an error.
func receive(c *Conn) (int, error) {
	e, err := c.Receive()
	if err != nil {
		return 0, err
	}
	return number(e)
}

func listen(t *testing.T, opts ...Option) *Conn {
	t.Helper()
	c, err := Listen(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func testLargeBuffer(t *testing.T, trigger trigger) {
	c := listen(t)
	const events = 20_000
	for n := range events {
		trigger(t, n)
	}
	for want := range events {
		if got, err := receive(c); err != nil || got != want {
			t.Fatalf("event %d = %d, %v", want, got, err)
		}
	}
	if got, want := c.Stats(), (Stats{Received: events}); got != want {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
}

// countingSocket counts recv.
type countingSocket struct {
	socket
	recvs atomic.Int64
}

func (s *countingSocket) recv(fd uintptr, p []byte) (datagram, syscall.Errno) {
	s.recvs.Add(1)
	return s.socket.recv(fd, p)
}

func testSmallBuffer(t *testing.T, trigger trigger) {
	c := listen(t, ReceiveBuffer(4096))
	counter := &countingSocket{socket: c.sock}
	c.sock = counter
	const events = 5000
	for n := range events {
		trigger(t, n)
	}
	received := 0
	for {
		n, err := receive(c)
		if errors.Is(err, ErrOverrun) {
			break
		}
		if err != nil || n != received {
			t.Fatalf("event %d = %d, %v", received, n, err)
		}
		received++
	}
	if received == 0 || received > events/2 || received > c.queueLimit {
		t.Errorf("%d events of %d before the overrun, want a few and at most %d", received, events, c.queueLimit)
	}

	// The queue is empty: later events are received, and waiting for them does not spin.
	counter.recvs.Store(0)
	result := make(chan error)
	go func() {
		n, err := receive(c)
		if err == nil && n != events {
			err = fmt.Errorf("it is number %d, want %d", n, events)
		}
		result <- err
	}()
	time.Sleep(50 * time.Millisecond) // what a loop needs to show
	if recvs := counter.recvs.Load(); recvs > 1 {
		t.Errorf("%d calls of recv while there is nothing to receive, want at most 1", recvs)
	}
	trigger(t, events)
	if err := <-result; err != nil {
		t.Errorf("first event after the overrun: %v", err)
	}
	if got, want := c.Stats(), (Stats{Received: uint64(received) + 1, Overruns: 1}); got != want {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
}

// Events come faster than they are read, because the reader waits for 200 more after each overrun, as
// if it walked sysfs. Every overrun is reported once, and the end of the flood is noticed.
func testFlood(t *testing.T, trigger trigger) {
	c := listen(t, ReceiveBuffer(8192))
	const events, rescan = 20_000, 200
	var sent atomic.Int64
	var received, overruns uint64
	result := make(chan error, 1)
	go func() {
		pause := func() {
			for until := min(sent.Load()+rescan, events); sent.Load() < until; {
				time.Sleep(10 * time.Microsecond)
			}
		}
		pause()
		for last := 0; last < events || c.drain > 0; { // at the end no overrun is pending
			n, err := receive(c)
			switch {
			case errors.Is(err, ErrOverrun):
				overruns++
				pause()
			case err != nil:
				result <- err
				return
			default:
				received++
				last = n
			}
		}
		result <- nil
	}()
	for n := range events {
		trigger(t, n)
		sent.Add(1)
	}
	for end := false; !end; { // an event after the flood may be dropped like any other
		trigger(t, events)
		select {
		case err := <-result:
			if err != nil {
				t.Fatal(err)
			}
			end = true
		case <-time.After(time.Millisecond):
		}
	}
	if got, want := c.Stats(), (Stats{Received: received, Overruns: overruns}); got != want {
		t.Errorf("Stats = %+v, but Receive gave %+v", got, want)
	}
	if overruns == 0 || received >= events {
		t.Errorf("%d of %d events received and %d overruns, want a loss and overruns", received, events, overruns)
	}
	t.Logf("%d of %d events received, %d overruns", received, events, overruns)
}

func testForged(t *testing.T, trigger trigger) {
	c := listen(t)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	message := "add@/devices/forged\x00ACTION=add\x00DEVPATH=/devices/forged\x00SUBSYSTEM=pci\x00MODALIAS=evil\x00SEQNUM=1\x00"
	send := func(what, message string, groups uint32) {
		if err := unix.Sendto(fd, []byte(message), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
			t.Fatalf("send %s: %v", what, err)
		}
	}
	send("a forged event", message, 1)
	send("one that does not fit the buffer", message+string(make([]byte, 2*messageSize)), 1)
	send("a message to the listeners of udevd", message, 2)

	// A message to the kernel itself: it passes the event on in its own name, with a new SEQNUM.
	header := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(message)))
	header = binary.NativeEndian.AppendUint16(header, unix.NLMSG_MIN_TYPE)
	header = binary.NativeEndian.AppendUint16(header, unix.NLM_F_REQUEST)
	header = binary.NativeEndian.AppendUint64(header, 0)
	send("an event through the kernel", string(header)+message, 0)

	trigger(t, 1)
	if n, err := receive(c); err != nil || n != 1 {
		t.Fatalf("event after the forged ones = %d, %v, want number 1", n, err)
	}
	if got, want := c.Stats(), (Stats{Received: 1, Ignored: 3}); got != want {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
}

func testCloseWhileBlocked(t *testing.T) {
	c := listen(t)
	counter := &countingSocket{socket: c.sock}
	c.sock = counter
	result := make(chan error)
	go func() {
		_, err := c.Receive()
		result <- err
	}()
	for counter.recvs.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-result; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Receive = %v, want %v", err, os.ErrClosed)
	}
}

func testAllocations(t *testing.T, trigger trigger) {
	c := listen(t)
	const events = 1000
	for n := range events + 1 { // AllocsPerRun calls once more
		trigger(t, n)
	}
	allocs := testing.AllocsPerRun(events, func() {
		if _, err := c.Receive(); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 1 {
		t.Errorf("Receive allocates %v times, want once", allocs)
	}
}
