package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/vm"
)

// TestStandaloneBase boots an image that stays, without a service of its own, whose hapax.toml asks for DHCP. QEMU's user network
// answers; what the system looks like is read from inside. The clock of the machine stands at 1970.
func TestStandaloneBase(t *testing.T) {
	l, k := needFirst(t)
	settings, sysctl := filepath.Join(t.TempDir(), "hapax.toml"), filepath.Join(t.TempDir(), "test.conf")
	for file, text := range map[string]string{
		settings: "standalone = true\n[network]\ndhcp = true\nsearch = [\"lab.example\"]\n", sysctl: "net.ipv4.ip_default_ttl = 33\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz,
		Initrd: shellImage(t, l, k, "--config", settings, "--mode", "custom", "--modules", "virtio_pci,virtio_net,virtio_rng,af_packet",
			"--include", sysctl+":/etc/sysctl.d/test.conf"),
		Append: bootArgs + "hapax.hostname=box",
		Extra: []string{
			"-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0", "-device", "virtio-rng-pci", "-rtc", "base=1970-01-01",
		},
	}})
	c := client(t, v, time.Minute)
	// The shell comes when the devices have settled, the lease a little later.
	var state string
	for range 60 {
		if c.Ask(guest.Cat, "/run/hapax/network/eth0", &state) == nil {
			break
		}
		time.Sleep(time.Second)
	}
	for file, want := range map[string][]string{
		"/run/hapax/network/eth0":               {"address=10.0.2.15/24\n", "gateway=10.0.2.2\n", "server=10.0.2.2\n"},
		"/etc/resolv.conf":                      {"search lab.example\n", "nameserver 10.0.2.3\n"},
		"/proc/net/route":                       {"eth0\t00000000\t0202000A"}, // 0.0.0.0 by 10.0.2.2
		"/proc/sys/kernel/hostname":             {"box\n"},
		"/proc/sys/net/ipv4/ip_default_ttl":     {"33\n"},
		"/sys/class/net/lo/operstate":           {"unknown\n"}, // what lo has when it is up
		"/proc/mounts":                          {" /dev/pts devpts ", " /dev/shm tmpfs ", " /tmp tmpfs ", " /sys/fs/cgroup cgroup2 ", " /sys/fs/bpf bpf ", " /sys/kernel/tracing tracefs "},
		"/sys/fs/cgroup/cgroup.subtree_control": {"cpu", "memory", "pids"},
		"/sys/class/rtc/rtc0/date":              {"1970-"},
	} {
		text := ask[string](t, c, guest.Cat, file)
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s lacks %q:\n%s", file, w, text)
			}
		}
	}
	if id := strings.TrimSpace(ask[string](t, c, guest.Cat, "/etc/machine-id")); len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		t.Errorf("machine id %q", id)
	}
	if log := ask[string](t, c, guest.Dmesg, ""); !strings.Contains(log, "set to the time of the image, 2026-") {
		t.Error("the kernel log does not say that the clock was set to the time of the image")
	}
}
