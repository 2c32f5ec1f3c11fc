package shutdown

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// A machine is a kernel in memory: mounts that hold each other, devices that
// hold mounts, and a log of the calls that changed something.
type machine struct {
	t      *testing.T
	files  map[string]string
	mounts []string            // points, in order
	busy   map[string]bool     // mount points that cannot be unmounted
	hangs  map[string]bool     // calls that do not return
	server map[string]bool     // mount points whose server is away: only force unmounts them
	let    chan struct{}       // closed, ends those
	below  map[string][]string // what has to be gone before a mount or device can go
	swaps  []string
	blocks []string
	did    []string
	syncs  func()
	reboot func(m Method, arg string) error
}

func newMachine(t *testing.T) *machine {
	return &machine{t: t, files: map[string]string{}, busy: map[string]bool{}, hangs: map[string]bool{}, below: map[string][]string{}, let: make(chan struct{})}
}

func (m *machine) system() System {
	return System{
		ReadFile: m.readFile,
		ReadDir:  func(string) ([]string, error) { return slices.Clone(m.blocks), nil },
		Sync: func() {
			m.did = append(m.did, "sync")
			if m.syncs != nil {
				m.syncs()
			}
		},
		Swapoff: func(path string) error { return m.remove(&m.swaps, "swapoff", path) },
		Unmount: func(path string, force bool) error {
			if m.busy[path] {
				return unix.EBUSY
			}
			if m.server[path] && !force {
				<-m.let
				return unix.EIO
			}
			return m.remove(&m.mounts, "unmount", path)
		},
		ReadOnly: func(path string) error {
			m.did = append(m.did, "read-only "+path)
			return nil
		},
		Detach: func(name string) error { return m.remove(&m.blocks, "detach", name) },
		Reboot: func(how Method, arg string) error {
			m.did = append(m.did, strings.TrimSpace(how.String()+" "+arg))
			if m.reboot != nil {
				return m.reboot(how, arg)
			}
			return nil
		},
	}
}

func (m *machine) readFile(path string) ([]byte, error) {
	var b strings.Builder
	switch path {
	case "/proc/self/mountinfo":
		for i, point := range m.mounts {
			fstype := "ext4"
			if point == "/proc" {
				fstype = "proc"
			}
			fmt.Fprintf(&b, "%d 1 8:1 / %s rw,relatime shared:1 - %s /dev/x rw\n", i, strings.ReplaceAll(point, " ", `\040`), fstype)
		}
	case "/proc/swaps":
		b.WriteString("Filename Type Size Used Priority\n")
		for _, s := range m.swaps {
			fmt.Fprintf(&b, "%s partition 1 0 -2\n", s)
		}
	default:
		content, ok := m.files[path]
		if !ok {
			return nil, unix.ENOENT
		}
		return []byte(content), nil
	}
	return []byte(b.String()), nil
}

// remove takes name from list, unless something below it is still there.
func (m *machine) remove(list *[]string, verb, name string) error {
	if m.hangs[name] {
		<-m.let
		return unix.EIO
	}
	there := slices.Concat(m.mounts, m.swaps, m.blocks)
	for _, b := range m.below[name] {
		if slices.Contains(there, b) {
			return unix.EBUSY
		}
	}
	i := slices.Index(*list, name)
	if i < 0 {
		m.t.Errorf("%s %s: there is none", verb, name)
		return unix.EINVAL
	}
	*list = slices.Delete(*list, i, i+1)
	m.did = append(m.did, verb+" "+name)
	return nil
}

// Layers are taken apart from the top, in as many passes as it takes, and the
// file systems of the kernel stay.
func TestFinishTakesLayersApart(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mounts = []string{"/", "/proc", "/run", "/oldroot", "/oldroot/home dir", "/run/lower"}
	m.blocks = []string{"loop0", "dm-0", "dm-1", "loop1", "sda", "md127"}
	m.files["/sys/block/loop0/loop/backing_file"] = "/oldroot/disk.img\n"
	m.files["/sys/block/md127/md/array_state"] = "active\n"
	m.swaps = []string{"/dev/dm-1"}
	m.below = map[string][]string{
		"/oldroot": {"/oldroot/home dir", "/dev/dm-1"},
		"dm-0":     {"/oldroot", "/run/lower"},
		"dm-1":     {"/dev/dm-1"},
		"loop0":    {"dm-0"},
		"md127":    {"loop0"},
	}
	if err := Finish(m.system(), Options{Method: PowerOff, Logf: t.Logf}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"sync", "unmount /run/lower", "unmount /oldroot/home dir", "swapoff /dev/dm-1", "detach dm-1", "unmount /oldroot", "detach dm-0",
		"detach loop0", "detach md127", "read-only /", "sync", "poweroff", "halt",
	}
	got := slices.Clone(m.did)
	if !sameSteps(got, want) {
		t.Errorf("did\n%q\nwant\n%q", got, want)
	}
	if slices.Contains(m.did, "detach loop1") || slices.Contains(m.did, "detach sda") {
		t.Errorf("detached what nothing is attached to: %q", m.did)
	}
}

// sameSteps compares what was done without regard to the order of independent
// steps; that of dependent ones is the machine's.
func sameSteps(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

// E12: an unmount that never returns costs its limit once, and the machine still
// goes down; what is busy is made read-only.
func TestE12HangsAreLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		defer close(m.let)
		m.mounts = []string{"/", "/proc", "/mnt/dead", "/mnt/busy", "/mnt/good"}
		m.hangs["/mnt/dead"], m.busy["/mnt/busy"] = true, true
		var log []string
		begun := time.Now()
		err := Finish(m.system(), Options{Method: Halt, Logf: func(f string, args ...any) { log = append(log, fmt.Sprintf(f, args...)) }})
		if err == nil {
			t.Error("reboot(2) has returned, and Finish gives no error")
		}
		if took := time.Since(begun); took != 2*callLimit { // the second time by force
			t.Errorf("took %v, want %v", took, 2*callLimit)
		}
		want := []string{"sync", "unmount /mnt/good", "read-only /mnt/busy", "read-only /", "sync", "halt"}
		if !slices.Equal(m.did, want) {
			t.Errorf("did %q, want %q", m.did, want)
		}
		text := strings.Join(log, "\n")
		for _, line := range []string{"force unmount /mnt/dead: no end after", "unmount /mnt/busy: device or resource busy", "/mnt/busy could not be unmounted"} {
			if strings.Count(text, line) != 1 {
				t.Errorf("the log has not one %q:\n%s", line, text)
			}
		}
	})
}

// E12: what waits for a server is broken off.
func TestE12Force(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		defer close(m.let)
		m.mounts, m.server = []string{"/", "/mnt/nfs"}, map[string]bool{"/mnt/nfs": true}
		_ = Finish(m.system(), Options{Method: Halt, Logf: t.Logf})
		if !slices.Contains(m.did, "unmount /mnt/nfs") {
			t.Errorf("did %q", m.did)
		}
	})
}

// E12: sync is waited for as long as it gets on, and 30 s more.
func TestE12SyncIsLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		kB, hang := 5000, make(chan struct{})
		m.syncs = func() { <-hang }
		defer close(hang)
		c := newCloser(m.system(), t.Logf)
		m.files["/proc/meminfo"] = ""
		sys := m.system()
		c.ReadFile = func(path string) ([]byte, error) {
			if path != "/proc/meminfo" {
				return sys.ReadFile(path)
			}
			kB = max(kB-1000, 2000)
			return fmt.Appendf(nil, "MemTotal: 1 kB\nDirty: %d kB\nWriteback:   7 kB\n", kB), nil
		}
		begun := time.Now()
		c.sync()
		// 4000 at the start, then 3000 and 2000: progress twice.
		if took, want := time.Since(begun), 2*syncStall+syncStalls*syncStall; took != want {
			t.Errorf("gave up after %v, want %v", took, want)
		}
	})
}

// E13: a loaded kernel is started by a reboot, and by nothing else; an argument
// goes to a reboot; what the machine cannot do is replaced.
func TestE13Reboot(t *testing.T) {
	t.Parallel()
	no := errors.New("no")
	for _, tt := range []struct {
		name   string
		method Method
		loaded string
		param  string
		fails  []Method
		want   string
	}{
		{"reboot", Reboot, "0\n", "", nil, "reboot"},
		{"argument", Reboot, "0\n", "recovery\n", nil, "reboot recovery"},
		{"argument too long", Reboot, "0\n", strings.Repeat("x", 256), nil, "reboot"},
		{"argument of a halt", Halt, "0\n", "recovery\n", nil, "halt"},
		{"kexec", Reboot, "1\n", "", nil, "kexec"},
		{"kexec asked for and not loaded", Kexec, "0\n", "", []Method{Kexec}, "kexec,reboot"},
		{"power-off with a kernel loaded", PowerOff, "1\n", "", nil, "poweroff"},
		{"no power-off", PowerOff, "", "", []Method{PowerOff}, "poweroff,halt"},
	} {
		m := newMachine(t)
		m.files["/sys/kernel/kexec_loaded"], m.files[ParamPaths()[1]] = tt.loaded, tt.param
		down := make(chan struct{})
		m.reboot = func(how Method, _ string) error {
			if slices.Contains(tt.fails, how) {
				return no
			}
			close(down)
			select {} // as the kernel does
		}
		go func() { _ = Now(m.system(), Options{Method: tt.method}) }()
		<-down
		if got := strings.Join(m.did, ","); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	for _, m := range []Method{Reboot, Halt, PowerOff, Kexec} {
		if got, ok := ParseMethod(m.String()); got != m || !ok {
			t.Errorf("ParseMethod(%q) = %v, %v", m, got, ok)
		}
	}
	if _, ok := ParseMethod("exit"); ok {
		t.Error(`ParseMethod("exit") is ok`)
	}
}

func TestParseMounts(t *testing.T) {
	t.Parallel()
	got := parseMounts([]byte(`21 26 0:19 / /sys rw,nosuid shared:7 - sysfs sysfs rw
36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
37 35 98:1 / /ro ro,noatime - ext3 /dev/b rw
38 35 98:2 / /ro2 rw shared:1 master:2 propagate_from:3 - erofs none ro
too short - ext4 /dev/c rw
no separator at all here 1 2 3 4
39 35 98:3 / /a\134b\ rw - xfs
`))
	want := []mount{
		{"/sys", "sysfs", false}, {"/mnt 2", "ext3", false}, {"/ro", "ext3", true}, {"/ro2", "erofs", true}, {`/a\b\`, "xfs", false},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add([]byte("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw\n"))
	f.Add([]byte("1 2 3 4 \\7 6 - x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range parseMounts(b) {
			if m.point == "" || m.fstype == "" {
				t.Errorf("%q: %+v", b, m)
			}
			m.stays()
		}
	})
}
