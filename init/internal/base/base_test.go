package base

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/mnt"
)

// A machine is a System whose root is a folder, and what was done to it past that.
type machine struct {
	*System
	name   string // of the host
	set    time.Time
	now    time.Time
	rtc    time.Time // zero: there is none
	credit string
	up     bool
	binds  []string
	mounts []string
}

// newMachine returns a machine with these files and this command line. Its random bytes are all 0xaa.
func newMachine(t *testing.T, line string, files map[string]string) *machine {
	t.Helper()
	m := &machine{name: "(none)", now: time.Unix(epoch+1000, 0)}
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.System = &System{
		Root:   root,
		Params: cmdline.Parse(line),
		Mounts: mnt.System{
			Mkdir: func(string, uint32) error { return nil },
			Mount: func(_, target, _ string, _ uintptr, _ string) error {
				m.mounts = append(m.mounts, strings.TrimPrefix(target, root))
				return nil
			},
		},
		Bind: func(source, target string) error {
			m.binds = append(m.binds, strings.TrimPrefix(source, root)+" on "+strings.TrimPrefix(target, root))
			return nil
		},
		Hostname: func() (string, error) { return m.name, nil },
		SetName:  func(name string) error { m.name = name; return nil },
		Loopback: func() error { m.up = true; return nil },
		Random: func(p []byte) error {
			for i := range p {
				p[i] = 0xaa
			}
			return nil
		},
		Credit:  func(seed []byte) error { m.credit = string(seed); return nil },
		Now:     func() time.Time { return m.now },
		SetTime: func(at time.Time) error { m.set = at; return nil },
		RTC: func() (time.Time, error) {
			if m.rtc.IsZero() {
				return m.rtc, &os.PathError{Op: "open", Path: "/dev/rtc0", Err: unix.ENOENT}
			}
			return m.rtc, nil
		},
	}
	return m
}

// content returns a file of the machine, "" if it is not there.
func (m *machine) content(name string) string {
	b, _ := os.ReadFile(m.Root + name)
	return string(b)
}

// check holds the text of an error against a part of it; "" stands for no error.
func check(t *testing.T, what string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", what, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: error %v, want one with %q", what, err, want)
	}
}

func TestSetup(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "", map[string]string{
		"etc/hostname": "box.example\n", "sys/fs/cgroup/cgroup.controllers": "cpu memory\n", "sys/fs/cgroup/cgroup.subtree_control": "",
	})
	if errs := m.Setup(); len(errs) > 0 {
		t.Errorf("Setup: %v", errs)
	}
	if diff := cmp.Diff([]string{"/dev/pts", "/dev/shm", "/tmp", "/sys/fs/cgroup"}, m.mounts); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	if m.name != "box.example" || !m.up || len(m.binds) != 1 {
		t.Errorf("name %q, loopback %v, binds %q", m.name, m.up, m.binds)
	}
	if got := m.content("/sys/fs/cgroup/cgroup.subtree_control"); got != "+memory" { // the last of two writes to a plain file
		t.Errorf("subtree_control holds %q", got)
	}
}

// TestSetupGoesOn has each step in turn fail, and all at once: every other one is done.
func TestSetupGoesOn(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	breaks := map[string]func(*machine){
		"mount":     func(m *machine) { m.Mounts.Mkdir = func(string, uint32) error { return broken } },
		"clock":     func(m *machine) { m.SetTime = func(time.Time) error { return broken } },
		"seed":      func(m *machine) { m.Random = func([]byte) error { return broken } },
		"host name": func(m *machine) { m.SetName = func(string) error { return broken } },
		"bind":      func(m *machine) { m.Bind = func(_, _ string) error { return broken } },
		"loopback":  func(m *machine) { m.Loopback = func() error { return broken } },
	}
	files := map[string]string{
		"etc/sysctl.conf": "vm.swappiness=3\n", "proc/sys/vm/swappiness": "60\n", "var/lib/hapax/random-seed": strings.Repeat("s", 32),
		"dev/urandom": "",
	}
	all := newMachine(t, "", files)
	all.now, all.rtc = time.Unix(0, 0), time.Unix(epoch+5000, 0)
	for name, breakIt := range breaks {
		m := newMachine(t, "", files)
		m.now, m.rtc = time.Unix(0, 0), time.Unix(epoch+5000, 0)
		breakIt(m)
		breakIt(all)
		errs := m.Setup()
		if len(errs) == 0 || !errors.Is(errors.Join(errs...), broken) {
			t.Errorf("%s broken: errors %v", name, errs)
		}
		if got := m.content("/proc/sys/vm/swappiness"); got != "3\n" {
			t.Errorf("%s broken: the last step was not done: %q", name, got)
		}
	}
	all.Setup()
	if got := all.content("/proc/sys/vm/swappiness"); got != "3\n" {
		t.Errorf("everything broken: the last step was not done: %q", got)
	}
}

func TestHostname(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ line, file, before, want, err string }{
		{"", "web-1\n", "(none)", "web-1", ""},
		{"hapax.hostname=a systemd.hostname=b", "c", "(none)", "a", ""},
		{"systemd.hostname=b", "c", "(none)", "b", ""},
		{"", "", "(none)", "localhost", ""},
		{"", "", "", "localhost", ""},
		{"", "", "from-kernel", "from-kernel", ""},
		{"", "# none\n", "(none)", "localhost", "no host name"},
		{"hapax.hostname=a/../b", "good", "(none)", "localhost", `hapax.hostname=: "a/../b"`},
		{"hapax.hostname=x..y", "", "old", "old", "no host name"},
		{"hapax.hostname=-x", "", "(none)", "localhost", "no host name"},
		{"", "a\x1b[2Jb", "(none)", "localhost", "no host name"},
		{"", strings.Repeat("a", 65), "(none)", "localhost", "at most 64"},
		{"", strings.Repeat("a", 64), "(none)", strings.Repeat("a", 64), ""},
	} {
		files := map[string]string{}
		if tt.file != "" {
			files["etc/hostname"] = tt.file
		}
		m := newMachine(t, tt.line, files)
		m.name = tt.before
		check(t, tt.line+" "+tt.file, m.hostname(), tt.err)
		if m.name != tt.want {
			t.Errorf("%q with %q in the file: name %q, want %q", tt.line, tt.file, m.name, tt.want)
		}
	}
}

func TestMachineID(t *testing.T) {
	t.Parallel()
	const (
		uuid   = "12345678-9ABC-DEF0-1234-56789abcdef0"
		id     = "123456789abcdef0123456789abcdef0"
		random = "aaaaaaaaaaaa4aaaaaaaaaaaaaaaaaaa"
		vm     = "flags\t\t: fpu vme hypervisor lahf_lm\n"
	)
	dmi := "sys/class/dmi/id/product_uuid"
	for _, tt := range []struct {
		name, line string
		files      map[string]string
		want, err  string // want "": what is there stays
	}{
		{"kept", "systemd.machine_id=" + uuid, map[string]string{"etc/machine-id": id + "\n"}, "", ""},
		{"random", "", nil, random, ""},
		{"a damaged one", "", map[string]string{"etc/machine-id": "uninitialized\n"}, random, ""},
		{"an empty one", "", map[string]string{"etc/machine-id": ""}, random, ""},
		{"command line", "systemd.machine_id=" + uuid, nil, id, ""},
		{"command line wrong", "systemd.machine_id=12", nil, random, `systemd.machine_id="12"`},
		{"of a virtual machine", "", map[string]string{dmi: uuid + "\n", "proc/cpuinfo": vm}, id, ""},
		{"of a board", "", map[string]string{dmi: uuid + "\n", "proc/cpuinfo": "flags\t\t: fpu vme\n"}, random, ""},
		{"of a board, wanted", "systemd.machine_id=firmware", map[string]string{dmi: uuid + "\n"}, id, ""},
		{"zeros", "systemd.machine_id=firmware", map[string]string{dmi: strings.Repeat("0", 32)}, random, ""},
		{"ones", "systemd.machine_id=firmware", map[string]string{dmi: "ffffffff-ffff-ffff-ffff-ffffffffffff"}, random, ""},
		{"device tree", "", map[string]string{"proc/device-tree/hypervisor/compatible": "", "proc/device-tree/vm,uuid": uuid + "\x00"}, id, ""},
	} {
		m := newMachine(t, tt.line, tt.files)
		check(t, tt.name, m.machineID(), tt.err)
		if tt.want == "" {
			if len(m.binds) > 0 {
				t.Errorf("%s: binds %q over an id that is good", tt.name, m.binds)
			}
			continue
		}
		if got := m.content(runningMachineID); got != tt.want+"\n" {
			t.Errorf("%s: id %q, want %q", tt.name, got, tt.want)
		}
		if diff := cmp.Diff([]string{"/run/machine-id on /etc/machine-id"}, m.binds); diff != "" {
			t.Errorf("%s: binds (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	image := time.Unix(epoch+100_000, 0)
	year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	for _, tt := range []struct {
		name     string
		now, rtc time.Time
		want     time.Time // zero: not set
		err      string
		seed     time.Time // when the last boot saved it; zero is long ago
	}{
		{"right", image.Add(time.Hour), year(1970), time.Time{}, "", time.Time{}},
		{"1970, no RTC", year(1970), time.Time{}, image, "there is no hardware clock", time.Time{}},
		{"1970, RTC right", year(1970), image.Add(time.Hour), image.Add(time.Hour), "", time.Time{}},
		{"1970, RTC too", year(1970), year(1970), image, "the hardware clock says 1970-01-01T00:00:00Z", time.Time{}},
		{"just before the image", image.Add(-time.Second), year(2020), image, "2020", time.Time{}},
		{"2100, RTC too", year(2100), year(2100), image, "the hardware clock says 2100-01-01T00:00:00Z", time.Time{}},
		{"2100, RTC right", year(2100), image.Add(time.Minute), image.Add(time.Minute), "", time.Time{}},
		{"1970, a later boot", year(1970), year(1970), year(2030), "set to the time of the last boot, 2030-", year(2030)},
		{"right, one boot was wrong", image.Add(time.Hour), image.Add(time.Hour), time.Time{}, "", year(2045)},
		{"1970, RTC right, one boot was wrong", year(1970), image.Add(time.Hour), image.Add(time.Hour), "", year(2045)},
	} {
		m := newMachine(t, "", map[string]string{"etc/initrd-release": "", "var/lib/hapax/random-seed": ""})
		if err := os.Chtimes(m.Root+"/etc/initrd-release", image, image); err != nil {
			t.Fatal(err)
		}
		if tt.seed.IsZero() {
			tt.seed = year(1980)
		}
		if err := os.Chtimes(m.Root+seedFile, tt.seed, tt.seed); err != nil {
			t.Fatal(err)
		}
		m.now, m.rtc = tt.now, tt.rtc
		check(t, tt.name, m.clock(), tt.err)
		if !m.set.Equal(tt.want) && (!m.set.IsZero() || !tt.want.IsZero()) {
			t.Errorf("%s: set to %v, want %v", tt.name, m.set, tt.want)
		}
	}
	// An image without a time of its own, as it is by default, and one whose time is absurd.
	for _, at := range []time.Time{year(1970), year(2200)} {
		m := newMachine(t, "", map[string]string{"etc/initrd-release": ""})
		if err := os.Chtimes(m.Root+"/etc/initrd-release", at, at); err != nil {
			t.Fatal(err)
		}
		if got := m.built("/etc/initrd-release"); got.Unix() != epoch {
			t.Errorf("an image of %v: not before %v", at, got)
		}
	}
}

func TestSeed(t *testing.T) {
	t.Parallel()
	old, next := strings.Repeat("s", seedSize), strings.Repeat("\xaa", seedSize)
	for _, tt := range []struct{ name, line, seed, stirred, credited string }{
		{"stirred in", "", old, old, ""},
		{"credited", "hapax.seed=credit", old, old, old},
		{"too short to count", "hapax.seed=credit", "short", "short", ""},
		{"longer than needed", "hapax.seed=credit", old + "more", old, old},
	} {
		m := newMachine(t, tt.line, map[string]string{"var/lib/hapax/random-seed": tt.seed, "dev/urandom": ""})
		atCredit := "not called"
		m.Credit = func(seed []byte) error {
			m.credit, atCredit = string(seed), m.content(seedFile)
			return nil
		}
		check(t, tt.name, m.seed(), "")
		if got := m.content("/dev/urandom"); got != tt.stirred || m.credit != tt.credited {
			t.Errorf("%s: stirred in %q, credited %q", tt.name, got, m.credit)
		}
		if tt.credited != "" && atCredit != "" {
			t.Errorf("%s: credited while the file still held %q", tt.name, atCredit)
		}
		if got := m.content(seedFile); got != next {
			t.Errorf("%s: the next seed is %q", tt.name, got)
		}
	}
	m := newMachine(t, "hapax.seed=credit", map[string]string{"var/lib/hapax/x": "", "dev/urandom": ""})
	check(t, "first boot", m.seed(), "")
	if st, err := os.Stat(m.Root + seedFile); err != nil || st.Mode() != 0o600 || st.Size() != seedSize {
		t.Errorf("the saved seed: %v %v", st, err)
	}
	m = newMachine(t, "", map[string]string{"var/lib/x": ""})
	check(t, "no place", m.seed(), "")
	if m.content(seedFile) != "" {
		t.Error("a seed was saved where nobody made a folder for it")
	}
	m = newMachine(t, "hapax.seed=credit", map[string]string{"var/lib/hapax/random-seed": old})
	check(t, "no generator to stir it into", m.seed(), "urandom")
	if m.credit != "" {
		t.Error("a seed was credited that the kernel has not taken")
	}
}
