package guard

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hapax/tests/need"
)

// ends lists the signals that mean the end of the machine, with the signal that
// reboot(2) leaves with the parent of a pid namespace (kernel/pid_namespace.c).
// There is no kexec in one, so that becomes a restart.
func ends() map[syscall.Signal]syscall.Signal {
	restart, down := unix.SIGHUP, unix.SIGINT
	return map[syscall.Signal]syscall.Signal{
		unix.SIGINT: restart, unix.SIGTERM: restart, rtmin + 5: restart, rtmin + 6: restart, rtmin + 15: restart, rtmin + 16: restart,
		unix.SIGUSR1: down, unix.SIGUSR2: down, unix.SIGPWR: down,
		rtmin + 3: down, rtmin + 4: down, rtmin + 13: down, rtmin + 14: down,
	}
}

// killPID1 sends PID 1 every signal but those that end the machine, SIGKILL and
// SIGSTOP included: from within its namespace the kernel keeps these away.
func killPID1() {
	fmt.Println("engine: ready")
	for n := syscall.Signal(1); n <= lastSignal; n++ {
		if _, end := ends()[n]; end {
			continue
		}
		if err := unix.Kill(1, n); err != nil {
			fmt.Println("engine: signal", int(n), err)
		}
		time.Sleep(2 * time.Millisecond)
	}
	fmt.Println("engine: all sent")
}

// E1: no signal ends PID 1 but those that mean the end of the machine, whether
// they come from its children or from outside.
func TestE1Signals(t *testing.T) {
	p := start(t, "kill")
	p.expect(t, "engine: all sent")
	for n := syscall.Signal(1); n <= lastSignal; n++ {
		if _, end := ends()[n]; end || n == unix.SIGKILL || n == unix.SIGSTOP { // from a parent namespace nothing stops these
			continue
		}
		if err := p.cmd.Process.Signal(n); err != nil {
			t.Fatalf("signal %d: PID 1 has gone: %v", n, err)
		}
		time.Sleep(2 * time.Millisecond)
		if p.dead() {
			t.Fatalf("PID 1 died of signal %d (%v)", n, n)
		}
	}
	// It still does its work.
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := p.end(); got != unix.SIGHUP {
		t.Errorf("the namespace ended by %v, want a restart", got)
	}
}

func (p *pid1) dead() bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

// end waits for the end of PID 1 and returns the signal of it, 0 if there is none.
func (p *pid1) end() syscall.Signal {
	_ = p.cmd.Wait()
	if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return status.Signal()
	}
	return 0
}

// E1: each signal of the table has the end that the table says.
func TestE1Ends(t *testing.T) {
	need.Root(t)
	for sig, want := range ends() {
		t.Run(fmt.Sprint(int(sig)), func(t *testing.T) {
			t.Parallel()
			p := start(t, "wait")
			p.expect(t, "engine: ready")
			if err := p.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if got := p.end(); got != want {
				t.Errorf("%v ended PID 1 with %v, want the namespace ended by %v", sig, p.cmd.ProcessState, want)
			}
		})
	}
	for sig := range actions() {
		if _, end := ends()[sig.(syscall.Signal)]; !end && sig != unix.SIGHUP {
			t.Errorf("%v is in the table and not in the test", sig)
		}
	}
}

// E2, E7: one ctrl-alt-del gives a process that ignores SIGTERM its time and then
// ends it by SIGKILL; seven in a row do not wait for that.
func TestE2CtrlAltDel(t *testing.T) {
	need.Root(t)
	for _, presses := range []int{1, burst} {
		t.Run(fmt.Sprint(presses), func(t *testing.T) {
			t.Parallel()
			p := start(t, "stubborn")
			p.expect(t, "engine: ready")
			for range presses {
				if err := p.cmd.Process.Signal(unix.SIGINT); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Millisecond) // signals that are pending already are one
			}
			var said strings.Builder
			for p.lines.Scan() {
				said.WriteString(p.lines.Text() + "\n")
			}
			if got := p.end(); got != unix.SIGHUP {
				t.Errorf("the namespace ended by %v, want a restart", got)
			}
			if waited := strings.Contains(said.String(), "have not ended 5s after SIGTERM"); waited != (presses == 1) {
				t.Errorf("after %d presses, SIGTERM was waited for: %v\n%s", presses, waited, said.String())
			}
		})
	}
}
