package guard

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/handoff"
	"hapax/init/internal/switchroot"
)

// A systemd is told when the initramfs began, in a file that it can read from
// the start; another init gets nothing that it has not been given.
func TestArguments(t *testing.T) {
	t.Parallel()
	g := &guard{params: cmdline.Parse(""), args: []string{"single"}, began: moment{realtime: 1700000000123456, monotonic: 1500000}}
	plain := &switchroot.Target{Init: "/sbin/init", Program: "/usr/sbin/runit-init"}
	if got := strings.Join(g.arguments(plain), " "); got != "/sbin/init single" || plain.Inherit != nil {
		t.Errorf("arguments %q, descriptors %v", got, plain.Inherit)
	}
	target := &switchroot.Target{Init: "/sbin/init", Program: "/usr/lib/systemd/systemd"}
	got := strings.Join(g.arguments(target), " ")
	if len(target.Inherit) != 1 {
		t.Fatalf("descriptors %v, want one", target.Inherit)
	}
	f := os.NewFile(uintptr(target.Inherit[0]), "state")
	defer f.Close()
	if want := fmt.Sprintf("/sbin/init --switched-root --system --deserialize %d single", f.Fd()); got != want {
		t.Errorf("arguments %q, want %q", got, want)
	}
	buf := make([]byte, 100)
	n, err := f.Read(buf)
	if err != nil || string(buf[:n]) != "initrd-timestamp=1700000000123456 1500000\n\n" {
		t.Errorf("the state is %q, %v", buf[:n], err)
	}
}

// An engine that is done and does not end, because it has read a dead disk, is
// not waited for. What an engine says that nobody has let go counts for nothing.
func TestDoneIsEnough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &guard{params: cmdline.Parse("")}
		g.message(handoff.Message{Verb: handoff.Done})
		if g.leave != nil {
			t.Error("the guard leaves without a root")
		}
		g.target = &switchroot.Target{}
		g.leave = time.After(g.params.Drain + exitGrace)
		asked := time.Now()
		g.message(handoff.Message{Verb: handoff.Done})
		if at := <-g.leave; at.Sub(asked) != doneGrace {
			t.Errorf("the guard waits for %v, want %v", at.Sub(asked), doneGrace)
		}
	})
}

func TestNow(t *testing.T) {
	t.Parallel()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	first, second := now(), now()
	if first.monotonic < ts.Nano()/1000 || second.monotonic < first.monotonic || first.realtime == 0 {
		t.Errorf("%v then %v", first, second)
	}
}

// Without rd.break= at a point, the boot goes straight on.
func TestPausePasses(t *testing.T) {
	t.Parallel()
	g := &guard{params: cmdline.Parse("rd.break=mount")}
	passed := false
	g.pause("pre-pivot", func() { passed = true })
	if !passed || g.then != nil || g.shell != 0 {
		t.Errorf("passed %v, shell %d", passed, g.shell)
	}
}

// The end of a shell of rd.break= lets the boot go on; that of another has one
// more started.
func TestShellEnded(t *testing.T) {
	t.Parallel()
	g := &guard{params: cmdline.Parse(""), shell: 7}
	went := 0
	g.then = func() { went++ }
	g.shellEnded(0)
	if went != 1 || g.then != nil || g.shell != 0 || g.again != nil {
		t.Errorf("went on %d times, then %v, shell %d", went, g.then != nil, g.shell)
	}
	g.shell = 8
	g.shellEnded(0)
	if went != 1 || g.again == nil {
		t.Errorf("went on %d times, another shell planned: %v", went, g.again != nil)
	}
}
