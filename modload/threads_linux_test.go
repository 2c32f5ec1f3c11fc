package modload

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Kernel stacks of loader threads as /proc/TID/stack shows them.
const (
	stackAsking = `[<0>] call_usermodehelper_exec+0x141/0x1a0
[<0>] __request_module+0x1e5/0x4f0
[<0>] crypto_larval_lookup.part.0+0x14b/0x1a0
[<0>] crypto_alg_mod_lookup+0x101/0x1f0
[<0>] essiv_init+0x20/0x1000 [essiv]
[<0>] do_one_initcall+0x59/0x220
[<0>] do_init_module+0x4a/0x1f0
[<0>] __do_sys_finit_module+0xac/0x120
[<0>] do_syscall_64+0x55/0xb0
[<0>] entry_SYSCALL_64_after_hwframe+0x6e/0xd8
`
	stackSleeping = `[<0>] msleep+0x29/0x40
[<0>] hx_slow_init+0x1c/0x1000 [hx_slow]
[<0>] do_one_initcall+0x59/0x220
[<0>] do_init_module+0x4a/0x1f0
[<0>] __do_sys_finit_module+0xac/0x120
[<0>] do_syscall_64+0x55/0xb0
[<0>] entry_SYSCALL_64_after_hwframe+0x6e/0xd8
`
)

func TestAskingReadsStackOrWchan(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		stack, wchan string // "" for a file that is missing
		want         bool
	}{
		{"asks", stackAsking, "call_usermodehelper_exec", true},
		{"asks, by the stack alone", stackAsking, "", true},
		{"asks, by wchan alone", "", "call_usermodehelper_exec", true},
		{"asks, as older kernels inline it", "", "__request_module", true},
		{"sleeps", stackSleeping, "msleep", false},
		{"sleeps, by wchan alone", "", "msleep", false},
		{"runs, or may not be looked at", "", "0", false},
		{"has ended", "", "", false},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		for name, text := range map[string]string{"stack": tt.stack, "wchan": tt.wchan} {
			if text == "" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := asking(dir); got != tt.want {
			t.Errorf("%s: asking = %v, want %v", tt.name, got, tt.want)
		}
	}
}

// A kernel without CONFIG_STACKTRACE has an empty file, and wchan answers.
func TestAskingPassesOverAnEmptyStack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"stack": "", "wchan": "call_usermodehelper_exec"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !asking(dir) {
		t.Error("asking = false, want true by wchan")
	}
}

// Threads are known by what they insert, for as long as they do.
func TestInserter(t *testing.T) {
	t.Parallel()
	k := new(Kernel)
	type thread struct {
		module string
		tid    int
	}
	inside, leave := make(chan thread), make(chan struct{})
	for _, module := range []string{"a", "b"} {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			done := k.threads.enter(module)
			inside <- thread{module, unix.Gettid()}
			<-leave
			done()
			inside <- thread{module, unix.Gettid()}
		}()
	}
	for range 2 {
		th := <-inside
		if got := k.Inserter(th.tid); got != th.module {
			t.Errorf("Inserter = %q, want %q", got, th.module)
		}
	}
	if got := k.Inserter(os.Getpid() + 1<<22); got != "" { // no thread has such an id
		t.Errorf("Inserter of a stranger = %q", got)
	}
	for _, module := range []string{"a", "c"} { // inserted by a thread that waits for us; not inserted
		if k.Asking(module) {
			t.Errorf("%s is said to be asking", module)
		}
	}
	close(leave)
	for range 2 {
		if th := <-inside; k.Inserter(th.tid) != "" {
			t.Errorf("the thread that has inserted %s is still known", th.module)
		}
	}
}
