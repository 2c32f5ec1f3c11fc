package tests

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// gettys are services with terminals, on which busybox and Debian's agetty ask who is there. Busybox also plays login and shell.
const gettys = `
mode = "custom"
modules = ["virtio_pci", "virtio_console"]
program = ["/bin/busybox:/bin/login", "/bin/busybox:/bin/ash"]
include = ["%s:/etc/passwd"]

[[service]]
name = "serial"
exec = "/bin/busybox"
args = ["getty", "-L", "115200", "ttyS1", "vt100"]
tty = "/dev/ttyS1"

[[service]]
name = "virtual"
exec = "/sbin/agetty"
args = ["--noclear", "hvc0", "115200", "vt100"]
tty = "/dev/hvc0"
after = ["settled"]
`

// passwd gives root the password "geheim", as openssl passwd -6 makes it.
const passwd = "root:$6$hapaxtest$GW4AirkRNHCtWyS2goXO.0ABFB08A9WqiGMNQ9YQLf1n1hTYt4.qnTPaov0t85TVRI1LSxgH8IwzlvdV2C0MS.:0:0:root:/:/bin/ash\n"

// TestStandaloneGetty logs in on a second serial line and on a virtual console of a machine that stays. Who logs out is asked
// again.
func TestStandaloneGetty(t *testing.T) {
	need.Time(t)
	l, k := needFirst(t)
	image := standaloneImage(t, l, k, fmt.Sprintf(gettys, saved(t, "passwd", passwd)), "util-linux")
	dir := t.TempDir()
	lines := map[string]string{"ttyS1": filepath.Join(dir, "serial"), "hvc0": filepath.Join(dir, "virtual")}
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz, Initrd: image, Append: bootArgs,
		Extra: []string{
			"-chardev", "socket,id=ttyS1,server=on,wait=off,path=" + lines["ttyS1"], "-serial", "chardev:ttyS1",
			"-chardev", "socket,id=hvc0,server=on,wait=off,path=" + lines["hvc0"],
			"-device", "virtio-serial-pci", "-device", "virtconsole,chardev=hvc0",
		},
	}})
	terminals := map[string]terminal{}
	for name, path := range lines { // before anything is said on them
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		terminals[name] = terminal{conn, name}
	}
	client(t, v, time.Minute)
	for name, term := range terminals {
		term.expect(t, "login: ")
		term.enter(t, "root", "Password: ")
		term.enter(t, "geheim", "# ")
		term.enter(t, "tty; echo job $((6*7))", "\n/dev/"+name, "\njob 42")
		term.enter(t, "exit", "login: ")
	}
}

// A terminal is the other end of a line of a guest.
type terminal struct {
	net.Conn
	name string
}

// enter types a line, and waits for texts after that.
func (c terminal) enter(t *testing.T, line string, texts ...string) {
	t.Helper()
	if _, err := c.Write([]byte(line + "\r")); err != nil {
		t.Fatal(err)
	}
	c.expect(t, texts...)
}

// expect reads until each of the texts has come, in order.
func (c terminal) expect(t *testing.T, texts ...string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	var shown strings.Builder
	for buf := make([]byte, 256); ; {
		rest, found := shown.String(), true
		for _, text := range texts {
			if _, rest, found = strings.Cut(rest, text); !found {
				break
			}
		}
		if found {
			return
		}
		n, err := c.Read(buf)
		shown.Write(buf[:n])
		if err != nil {
			t.Fatalf("%s shows %q, want %q: %v", c.name, shown.String(), texts, err)
		}
	}
}
