package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/lab"
)

// virtiofsd comes with Debian's QEMU, and lies where nobody looks for programs.
const virtiofsd = "/usr/lib/qemu/virtiofsd"

// sharedFS is a machine without a disk, whose root is a folder that another process of the host serves out of the guest's
// own memory.
func sharedFS(t *testing.T, l *lab.Lab) qemu.Machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "hapax-fs-") // a socket's path is limited to 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	cmd := exec.CommandContext(t.Context(), virtiofsd, "--socket-path="+socket, "-o", "source="+rootFolder(t, l), "-o", "sandbox=chroot")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It ends with its guest. When the test ends before there is one, the context ends it.
	t.Cleanup(func() { _ = cmd.Wait() })
	for range 1000 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return qemu.Machine{Extra: []string{
		"-object", "memory-backend-memfd,id=ram,size=1024M,share=on", "-machine", "memory-backend=ram",
		"-chardev", "socket,id=fs,path=" + socket, "-device", "vhost-user-fs-pci,chardev=fs,tag=hostroot",
	}}
}
