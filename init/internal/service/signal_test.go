package service

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestSignals(t *testing.T) {
	t.Parallel()
	for sig := unix.Signal(1); sig < 32; sig++ {
		if name := unix.SignalName(sig); signalName(sig) != name || signalNumber(name) != sig {
			t.Errorf("signal %d is %s and %s is %d", sig, signalName(sig), name, signalNumber(name))
		}
	}
	for _, name := range []string{"", "SIG", "TERM", "SIGRTMIN", "SIG TERM", "sigterm"} {
		if got := signalNumber(name); got != 0 {
			t.Errorf("%q is signal %d", name, got)
		}
	}
	if got := signalName(40); got != "40" {
		t.Errorf("signal 40 is %s", got)
	}
}
