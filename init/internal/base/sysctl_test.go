package base

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSysctl(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "sysctl.kernel.panic=7 sysctl.absent.key=1", map[string]string{
		"proc/sys/vm/swappiness":                  "60",
		"proc/sys/kernel/panic":                   "0",
		"proc/sys/kernel/domainname":              "old",
		"proc/sys/net/ipv4/conf/eth0/rp_filter":   "0",
		"proc/sys/net/ipv4/conf/lo/rp_filter":     "0",
		"proc/sys/net/ipv4/conf/eth0.1/rp_filter": "0",
		"proc/sys/outside":                        "",
		"proc/other":                              "untouched",
		"usr/lib/sysctl.d/10-a.conf":              "vm.swappiness = 10\nkernel.panic=1\n",
		"usr/lib/sysctl.d/50-b.conf":              "kernel.panic = 2\n",
		"etc/sysctl.d/10-a.conf":                  "vm/swappiness=20\n", // hides the other
		"etc/sysctl.d/60-c.conf":                  "; comment\n# comment\n\nnet.ipv4.conf.*.rp_filter = 2\n-no.such = 1\n-kernel.gone\n",
		"etc/sysctl.d/70-d.conf":                  "net.ipv4.conf.eth0/1.rp_filter=1\nkernel.domainname = two words \n",
		"etc/sysctl.d/80-bad.conf":                "no assignment\n../other = 1\nno.such.key = 1\n= 2\n",
		"etc/sysctl.d/ignored.txt":                "vm.swappiness=99\n",
		"etc/sysctl.d/.hidden.conf":               "vm.swappiness=99\n",
		"etc/sysctl.conf":                         "kernel.panic = 3\n",
	})
	err := m.sysctl()
	for _, want := range []string{"80-bad.conf:1", "80-bad.conf:2", "80-bad.conf:3", "80-bad.conf:4"} {
		check(t, "sysctl", err, want)
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 4 {
		t.Errorf("%d errors, want 4: %v", n, err)
	}
	got := map[string]string{}
	for _, name := range []string{"vm/swappiness", "kernel/panic", "kernel/domainname", "net/ipv4/conf/eth0/rp_filter",
		"net/ipv4/conf/lo/rp_filter", "net/ipv4/conf/eth0.1/rp_filter", "../other"} {
		got[name] = strings.TrimSuffix(m.content("/proc/sys/"+name), "\n")
	}
	want := map[string]string{
		"vm/swappiness": "20", "kernel/panic": "7", "kernel/domainname": "two words", "net/ipv4/conf/eth0/rp_filter": "2",
		"net/ipv4/conf/lo/rp_filter": "2", "net/ipv4/conf/eth0.1/rp_filter": "1", "../other": "untouched",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func FuzzSysctl(f *testing.F) {
	for _, text := range []string{
		"a.b = c\n", "-net.ipv4.conf.*.x=1", "a/../b=1", "/proc/sys/x = 1", "..=1", ". = 1", "a..b=1", "=", "-", "#\n;\n\n", "a\x00b = 1",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		settings, err := parseSysctl("x.conf", text)
		if lines := strings.Count(text, "\n") + 1; len(settings) > lines {
			t.Fatalf("%d settings in %d lines", len(settings), lines)
		}
		for _, set := range settings {
			if path := filepath.Join(procSys, set.key); !strings.HasPrefix(path, procSys+"/") {
				t.Fatalf("%q leads to %s", set.key, path)
			}
		}
		if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' && r != '\n' }) {
			t.Fatalf("control characters in %q", err)
		}
	})
}
