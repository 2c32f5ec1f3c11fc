package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/vm"
)

// TestShell boots what make run boots: the report, then the prompt of u-root's shell, which does what it is told. It runs the
// install commands of modprobe.d, too.
func TestShell(t *testing.T) {
	l, k := needFirst(t)
	conf := filepath.Join(t.TempDir(), "install.conf")
	if err := os.WriteFile(conf, []byte("install virtio_rng echo in place of $MODPROBE_MODULE\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	image, err := l.HapaxImage(t.Context(), k, "--mode", "universal", "--shell", "u-root", "--include", conf+":etc/modprobe.d/install.conf")
	if err != nil {
		t.Fatal(err)
	}
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz, CPUs: 2, Initrd: image, Append: bootArgs + "quiet hapax.report=console rd.modules_load=virtio_rng",
	}})
	if _, err := v.WaitLine(time.Minute, "in place of virtio_rng"); err != nil {
		t.Fatal(err)
	}
	report, err := v.WaitLine(time.Minute, "hapax-report: {")
	if err != nil {
		t.Fatal(err)
	}
	// The prompt ends in no newline, so the answer to the first command is the first line that shows it.
	deadline := time.Now().Add(time.Minute)
	for answered := false; !answered; {
		if time.Now().After(deadline) {
			t.Fatal("the shell does not answer")
		}
		if err := v.Send("echo hapax-$(uname -s)-shell"); err != nil {
			t.Fatal(err)
		}
		_, err := v.WaitLine(5*time.Second, "hapax-Linux-shell")
		answered = err == nil
	}
	t.Logf("prompt behind %.60s...", strings.TrimSpace(report))
}
