//go:build faultinject

// Package fault lets tests end, stop or hang this program at named points of its
// way. Only a build with -tags faultinject has them; in any other At is nothing.
//
// The kernel argument hapax.fault=KIND@POINT, or KIND@POINT:N, has the N-th
// passage of POINT, by default the first, act as KIND says:
//
//	kill    the process is killed
//	panic   the goroutine panics, which ends the process
//	wedge   the process stops and stays
//	hang    the goroutine hangs, the others go on
//
// An engine that was started again passes all points unharmed.
package fault

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A plan is the fault that the kernel command line asks for.
type plan struct {
	kind, point string

	mu   sync.Mutex
	left int // passages until it happens
}

var read = sync.OnceValue(func() *plan {
	raw, _ := os.ReadFile("/proc/cmdline")
	for word := range strings.FieldsSeq(string(raw)) {
		value, ok := strings.CutPrefix(word, "hapax.fault=")
		kind, point, ok2 := strings.Cut(value, "@")
		if !ok || !ok2 || os.Getenv("HAPAX_RESTARTS") > "0" {
			continue
		}
		point, count, _ := strings.Cut(point, ":")
		n, err := strconv.Atoi(count)
		if err != nil {
			n = 1
		}
		return &plan{kind: kind, point: point, left: n}
	}
	return nil
})

// At is the point of that name.
func At(point string) {
	p := read()
	if p == nil || p.point != point || !p.due() {
		return
	}
	say("hapax: fault " + p.kind + " at " + point + "\n")
	switch p.kind {
	case "kill":
		_ = unix.Kill(unix.Getpid(), unix.SIGKILL)
	case "panic":
		panic("fault at " + point)
	case "wedge":
		_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
	case "hang":
		select {}
	default:
		panic(fmt.Sprintf("hapax.fault: no kind %q", p.kind))
	}
}

// due counts a passage, and reports whether it is the one.
func (p *plan) due() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left--
	return p.left == 0
}

// say leaves a line in the kernel's log, where a test looks for it.
func say(line string) {
	if fd, err := unix.Open("/dev/kmsg", unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
		_, _ = unix.Write(fd, []byte("<4>"+line))
		unix.Close(fd)
	}
}
