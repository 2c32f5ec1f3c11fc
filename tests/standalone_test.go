package tests

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// standaloneServices are those of docs/standalone.md, and one that writes without end.
const standaloneServices = `
mode = "custom"
modules = ["virtio_pci", "virtio_blk", "virtio_net", "ext4", "af_packet"]

[network]
dhcp = true

[[service]]
name = "data"
exec = "/bin/busybox"
args = ["sh", "-c", "mkdir -p /data /etc/dropbear && mount -t ext4 /dev/vda /data && echo hapax > /data/index.html"]
type = "oneshot"
after = ["settled"]

[[service]]
name = "web"
exec = "/bin/busybox"
args = ["httpd", "-f", "-v", "-p", "80", "-h", "/data"]
after = ["data", "network"]
ready = "tcp:80"
brake = "none"
restart-delay = "10ms"
log = "/data/web.log"
log-size = "4K"

[[service]]
name = "sshd"
exec = "/usr/sbin/dropbear"
args = ["-F", "-E", "-R"]
after = ["data", "network"]
ready = "tcp:22"
brake = "none"
restart-delay = "10ms"

[[service]]
name = "writer"
exec = "/bin/busybox"
args = ["sh", "-c", "while :; do echo line >> /data/lines; usleep 20000; done"]
after = ["data"]
`

// diskOnData begins the hapax.toml of an image that has the disk mounted at /data when the service "data" is done.
const diskOnData = `mode = "custom"
modules = ["virtio_pci", "virtio_blk", "ext4"]

[[service]]
name = "data"
exec = "/bin/busybox"
args = ["sh", "-c", "mkdir -p /data && mount -t ext4 /dev/vda /data"]
type = "oneshot"
after = ["settled"]
`

// A machine is a guest with a stand-alone image, whose shell is the program for tests.
type machine struct {
	guest.Client
	v    *vm.VM
	disk string
	web  string // addresses on the host
	ssh  string
}

// standalone builds an image with the services of a hapax.toml in one command, and boots it with a disk and a network.
func standalone(t *testing.T, toml string) machine {
	t.Helper()
	l, k := needFirst(t)
	m := machine{disk: rootDisk(t, l, func(string) error { return nil }).File, web: freePort(t), ssh: freePort(t)}
	m.start(t, l, k, standaloneImage(t, l, k, toml, "dropbear-bin"),
		"-netdev", fmt.Sprintf("user,id=net,hostfwd=tcp:%s-:80,hostfwd=tcp:%s-:22", m.web, m.ssh),
		"-device", "virtio-net-pci,netdev=net")
	return m
}

// standaloneImage builds an image with the services of a hapax.toml; programs come from busybox and the packages given.
func standaloneImage(t *testing.T, l *lab.Lab, k debian.Kernel, toml string, packages ...string) string {
	t.Helper()
	root, err := l.ProgramRoot(t.Context(), append([]string{"busybox-static"}, packages...)...)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "hapax.toml")
	if err := os.WriteFile(file, []byte(toml), 0o644); err != nil {
		t.Fatal(err)
	}
	return shellImage(t, l, k, "--config", file, "--root", root)
}

// start boots the machine with its disk, and devices beside.
func (m *machine) start(t *testing.T, l *lab.Lab, k debian.Kernel, image string, extra ...string) {
	t.Helper()
	m.v = vm.Run(t, l.Logs(), vm.Config{Limit: 5 * time.Minute, Machine: qemu.Machine{
		Kernel: k.Vmlinuz, Initrd: image, CPUs: 2, Disks: []string{m.disk}, Append: bootArgs, Extra: extra,
	}})
	m.Client = client(t, m.v, time.Minute)
}

// freePort returns an address on the host where nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// exchange sends a request to an address until an answer begins as it should. QEMU takes connections for guests that do not.
func exchange(t *testing.T, address, request, want string) string {
	t.Helper()
	var answer []byte
	var err error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var conn net.Conn
		if conn, err = net.Dial("tcp4", address); err != nil {
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err = io.WriteString(conn, request); err == nil {
			answer = make([]byte, len(want))
			if _, err = io.ReadFull(bufio.NewReader(conn), answer); err == nil && string(answer) == want {
				rest, _ := io.ReadAll(io.LimitReader(conn, 1))
				conn.Close()
				return want + string(rest)
			}
		}
		conn.Close()
	}
	t.Fatalf("%s answers %q to %q (%v), want %q", address, answer, request, err, want)
	return ""
}

// run runs a program in the guest.
func (m machine) run(t *testing.T, command string) guest.Ended {
	t.Helper()
	return ask[guest.Ended](t, m.Client, guest.Exec, command)
}

// A serviceStatus is what hapaxctl tells of a service.
type serviceStatus struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Pid    int    `json:"pid"`
	Starts int    `json:"starts"`
	Ended  string `json:"ended"`
}

func (m machine) status(t *testing.T, name string) serviceStatus {
	t.Helper()
	e := m.run(t, "/sbin/hapaxctl --json services")
	var all []serviceStatus
	if err := json.Unmarshal([]byte(e.Output), &all); err != nil || e.Code != 0 {
		t.Fatalf("hapaxctl services: %v: %+v", err, e)
	}
	i := slices.IndexFunc(all, func(s serviceStatus) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("no service %s in %s", name, e.Output)
	}
	return all[i]
}

// done waits until a oneshot has done what it does.
func (m machine) done(t *testing.T, name string) {
	t.Helper()
	s := m.status(t, name)
	for deadline := time.Now().Add(2 * time.Minute); s.State != "done" && s.State != "failed" && time.Now().Before(deadline); s = m.status(t, name) {
		time.Sleep(200 * time.Millisecond)
	}
	if s.State != "done" {
		t.Fatalf("%+v, its last lines:\n%s", s, m.run(t, "/sbin/hapaxctl log "+name).Output)
	}
}

// TestStandalone builds an image with one hapax build that serves requests through a forwarded port with an address by DHCP,
// kills its services again and again (100 times in make test-full), and powers off: no damage is left on its disk.
func TestStandalone(t *testing.T) {
	kills := 5
	if need.Full() {
		kills = 100
	}
	m := standalone(t, standaloneServices)
	const request = "GET /index.html HTTP/1.0\r\n\r\n"
	exchange(t, m.web, request, "HTTP/1.1 200 OK\r\n")
	exchange(t, m.ssh, "", "SSH-2.0-dropbear")
	for i := range kills {
		program, address, request, want := "httpd", m.web, request, "HTTP/1.1 200 OK\r\n"
		name := "web"
		if i%2 == 1 {
			program, name, address, request, want = "dropbear", "sshd", m.ssh, "", "SSH-2.0-dropbear"
		}
		pid := m.status(t, name).Pid
		if e := m.run(t, fmt.Sprintf("/bin/busybox kill -9 %d", pid)); e.Code != 0 || pid == 0 {
			t.Fatalf("kill %d: %s, process %d: %+v", i, program, pid, e)
		}
		exchange(t, address, request, want)
	}
	for name, want := range map[string]int{"web": 1 + (kills+1)/2, "sshd": 1 + kills/2} {
		if s := m.status(t, name); s.State != "up" || s.Starts != want || !strings.Contains(s.Ended, "SIGKILL") {
			t.Errorf("after %d kills: %+v, want %d starts", kills, s, want)
		}
	}
	if e := m.run(t, "/sbin/hapaxctl log web"); e.Code != 0 || !strings.Contains(e.Output, "response:200") {
		t.Errorf("hapaxctl log web: %+v", e)
	}
	if e := m.run(t, "/sbin/hapaxctl restart writer"); e.Code != 0 {
		t.Errorf("hapaxctl restart writer: %+v", e)
	}
	for pid, want := range map[int]string{1: "0", m.status(t, "web").Pid: "1"} { // PID 1 wants no huge pages, for itself
		if s := ask[string](t, m.Client, guest.Cat, fmt.Sprintf("/proc/%d/status", pid)); !strings.Contains(s, "THP_enabled:\t"+want+"\n") {
			t.Errorf("process %d: want THP_enabled %s:\n%s", pid, want, s)
		}
	}
	pid1 := m.calm(t)
	t.Logf("process 1 with its services after %d kills: %v", kills, pid1)
	checkBounds(t, pid1, status{})
	m.powerOff(t)
	lines := strings.Count(m.onDisk(t, "lines"), "line\n")
	log := m.onDisk(t, "web.log") + m.onDisk(t, "web.log.1")
	if lines < 10 || !strings.Contains(log, "response:200") || len(log) > 8<<10 {
		t.Errorf("the disk has %d lines of the writer, and a log of %d bytes", lines, len(log))
	}
}

// calm returns the status of PID 1 when it has let go of what the last events needed, which it does within ten seconds.
func (m machine) calm(t *testing.T) status {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Second) {
		s := guestStatus(t, m.Client, "1")
		if s.rss <= maxGuardRSS || time.Now().After(deadline) {
			return s
		}
	}
}

// powerOff ends the guest as its user would, and checks its disk.
func (m machine) powerOff(t *testing.T) {
	t.Helper()
	if err := m.v.Send(guest.Exec + " /sbin/poweroff"); err != nil {
		t.Fatal(err)
	}
	if err := m.v.WaitExit(2 * time.Minute); err != nil {
		t.Fatalf("power-off: %v", err)
	}
	undamaged(t, m.disk)
}

// undamaged checks an ext4 file system, which nobody has to recover.
func undamaged(t *testing.T, image string) {
	t.Helper()
	fsck, err := debian.Tool("fsck.ext4")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), fsck, "-fn", image).CombinedOutput()
	if err != nil || strings.Contains(string(out), "journal") {
		t.Errorf("fsck.ext4 -fn %s: %v\n%s", filepath.Base(image), err, out)
	}
}

// onDisk returns a file of the guest's disk, "" if there is none.
func (m machine) onDisk(t *testing.T, name string) string {
	t.Helper()
	debugfs, err := debian.Tool("debugfs")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), debugfs, "-R", "cat /"+name, m.disk).Output()
	if err != nil {
		t.Fatalf("debugfs: %v", err)
	}
	return string(out)
}

// E5, E8: a fork bomb stops at pids-max, and a service that eats memory is killed at memory-max and started again. PID 1 answers
// all the while, and the machine goes down as ever.
func TestStandaloneLimits(t *testing.T) {
	need.Time(t)
	m := standalone(t, diskOnData+`
[[service]]
name = "bomb"
exec = "/bin/busybox"
args = ["sh", "-c", "f() { f | f & }; f; while :; do f; sleep 1; done"]
pids-max = 40
cpu-weight = 1
log = "none"

[[service]]
name = "eater"
exec = "/bin/busybox"
args = ["sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done"]
memory-max = "24M"
log = "none"

[[service]]
name = "lazy"
exec = "/bin/busybox"
args = ["sh", "-c", "while :; do :; done"]
cpu-max = 0.05
log = "none"
`)
	read := func(file string) string {
		return strings.TrimSpace(ask[string](t, m.Client, guest.Cat, "/sys/fs/cgroup/hapax/"+file))
	}
	if s := m.status(t, "bomb"); s.State != "up" {
		t.Errorf("bomb: %+v", s)
	}
	for what, want := range map[string]string{"bomb/pids.max": "40", "eater/memory.max": "25165824", "lazy/cpu.max": "5000 100000", "bomb/cpu.weight": "1"} {
		if got := read(what); got != want {
			t.Errorf("%s is %s, want %s", what, got, want)
		}
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Second) {
		eater, hits := m.status(t, "eater"), read("bomb/pids.events")
		if eater.Starts >= 3 && strings.Contains(eater.Ended, "SIGKILL") && hits != "max 0" {
			t.Logf("eater: %+v; bomb: %s, processes %s", eater, hits, read("bomb/pids.current"))
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("eater: %+v, bomb: %s", eater, hits)
		}
	}
	if n := read("bomb/pids.current"); len(n) > 2 || n > "40" {
		t.Errorf("bomb has %s processes, want at most 40", n)
	}
	if e := m.run(t, "/sbin/hapaxctl stop bomb"); e.Code != 0 {
		t.Errorf("hapaxctl stop bomb: %+v", e)
	}
	if n := read("bomb/pids.current"); n != "0" {
		t.Errorf("bomb has %s processes when it has stopped", n)
	}
	m.powerOff(t)
}
