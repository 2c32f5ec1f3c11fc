package tests

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/vm"
)

// swordfish is the hash of that password, at a cost that an emulated processor pays in no time.
const swordfish = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$l7gLiL/O0YtKQjuCcLyrsHquL+5t2Hlibulo9UgTytQ"

// TestRescuePassword leaves a boot without a root, lets a cat walk over the keyboard, and types the password: only that gives
// the shell, which is the guest program and says so at once (reliability.md G4, G5; CVE-2016-4484).
func TestRescuePassword(t *testing.T) {
	l, k := needFirst(t)
	file := filepath.Join(t.TempDir(), "hash")
	if err := os.WriteFile(file, []byte(swordfish+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	v := vm.Run(t, l.Logs(), vm.Config{Limit: 5 * time.Minute, Machine: qemu.Machine{
		Kernel: k.Vmlinuz, Initrd: shellImage(t, l, k, "--mode", "custom", "--rescue", "password", "--rescue-password-file", file),
		Append: bootArgs + "root=LABEL=absent hapax.timeout=2 rd.break=cmdline",
	}})
	if _, err := v.WaitLine(time.Minute, "stopped at rd.break=cmdline"); err != nil {
		t.Fatal(err)
	}
	typeUntil(t, v, "not this\n", "hapax: wrong; 1s")
	keys := make([]byte, 10_000)
	_, _ = rand.NewChaCha8([32]byte{8}).Read(keys)
	held := strings.Repeat("\n", 1000) + strings.Repeat("\x03", 1000) + "\n" + strings.Repeat("\x04", 1000)
	typeUntil(t, v, held, "hapax: wrong; 2s")
	typeUntil(t, v, string(keys)+"\n", "hapax: wrong; 4s") // there is a ^S among them
	for _, line := range v.Lines() {
		if strings.Contains(line.Text, guest.Ready) {
			t.Fatalf("a shell without the password: %s", line.Text)
		}
	}
	typeUntil(t, v, "\x15swordfish\n", guest.Ready) // ^U: the cat may have left a line unfinished
}

// typeUntil types keys until the console shows a text: what is typed while the program does not ask is thrown away.
func typeUntil(t *testing.T, v *vm.VM, keys, text string) {
	t.Helper()
	for range 60 {
		if err := v.Type(keys); err != nil {
			t.Fatal(err)
		}
		if _, err := v.WaitLine(2*time.Second, text); err == nil {
			return
		} else if !errors.Is(err, vm.ErrTimeout) {
			t.Fatal(err)
		}
	}
	t.Fatalf("%.20q is typed and nothing says %q", keys, text)
}

// TestRescueNone has a shell in the image, for scripts, and gives it to nobody: not at rd.break= and not when the boot fails.
func TestRescueNone(t *testing.T) {
	l, k := needFirst(t)
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz, Initrd: shellImage(t, l, k, "--mode", "custom", "--rescue", "none"),
		Append: bootArgs + "root=LABEL=absent hapax.timeout=2 rd.break=cmdline,pre-mount rd.shell=1 rd.emergency=poweroff",
	}})
	for _, text := range []string{"rd.break=cmdline: the image gives nobody its shell", "cannot go on, and the image gives nobody its shell"} {
		if _, err := v.WaitLine(time.Minute, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.WaitExit(time.Minute); err != nil {
		t.Errorf("rd.emergency=poweroff: %v", err)
	}
	for _, line := range v.Lines() {
		if strings.Contains(line.Text, guest.Ready) {
			t.Errorf("a shell: %s", line.Text)
		}
	}
}
