package service

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// signals returns the names of signal(7) from number 1 on, which are the same on all architectures that images are made for. The
// table of x/sys would take twenty times as much of /init.
func signals() []string {
	return strings.Fields("HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ " +
		"VTALRM PROF WINCH IO PWR SYS")
}

// signalNumber returns the signal of a name such as SIGTERM, 0 if there is none.
func signalNumber(name string) unix.Signal {
	short, ok := strings.CutPrefix(name, "SIG")
	if !ok {
		return 0
	}
	return unix.Signal(slices.Index(signals(), short) + 1)
}

// signalName returns the name of a signal, and its number for one that has none.
func signalName(sig unix.Signal) string {
	if names := signals(); sig > 0 && int(sig) <= len(names) {
		return "SIG" + names[sig-1]
	}
	return itoa(int(sig))
}
