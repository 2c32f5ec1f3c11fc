package service

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := Parse(Header + `
service a
exec /bin/a
service b-2.x@y
exec /usr/bin/b b
arg two words
arg line\nand \\ backslash
arg ` + `
env A=1
env B==
uid 990
gid 991
group 5
group 6
dir /var
type oneshot
after a
after settled
ready fd:4
restart on-failure
restart-delay 2s
brake 3 1m0s 1h0m0s
start-timeout 5s
stop-timeout 0s
stop-signal SIGHUP
tty /dev/ttyS1
memory-max 1048576
pids-max 20
cpu-weight 50
cpu-max 50000
oom-score -500
log /var/log/b
log-size 4096
service c
exec /bin/c
type oneshot
log none
tty console
ready socket:/run/c
brake none
`)
	if err != nil {
		t.Fatal(err)
	}
	a := newSpec("a")
	a.Exec = "/bin/a"
	b := Spec{
		Name: "b-2.x@y", Exec: "/usr/bin/b b", Args: []string{"two words", "line\nand \\ backslash", ""}, Env: []string{"A=1", "B=="},
		UID: 990, GID: 991, Groups: []uint32{5, 6}, Dir: "/var", Oneshot: true, After: []string{"a", Settled},
		Ready: Ready{Kind: ReadyFD, FD: 4}, Restart: OnFailure, Delay: 2 * time.Second, Brake: Brake{3, time.Minute, time.Hour},
		StartTimeout: 5 * time.Second, StopSignal: unix.SIGHUP, TTY: "/dev/ttyS1", OOMScore: -500,
		Limits: Limits{MemoryMax: 1 << 20, PidsMax: 20, CPUWeight: 50, CPUMax: 50000}, Log: "/var/log/b", LogSize: 4096,
	}
	c := newSpec("c")
	c.Exec, c.Oneshot, c.Restart, c.StartTimeout, c.Log, c.TTY, c.Brake = "/bin/c", true, Never, 0, LogNone, Console, Brake{}
	c.Ready = Ready{Kind: ReadySocket, Path: "/run/c"}
	if diff := cmp.Diff([]Spec{a, b, c}, got); diff != "" {
		t.Errorf("Parse (-want +got):\n%s", diff)
	}
	if got, err := Parse(Header + "\n"); err != nil || got != nil {
		t.Errorf("Parse of no service = %v, %v", got, err)
	}
}

// What the image builder writes is what is read here: this is the golden file of its own test, made of image/testdata/services.toml.
func TestParseBuilt(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../image/testdata/services.golden")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	spec := func(name, exec string, change func(*Spec)) Spec {
		s := newSpec(name)
		s.Exec, s.After = exec, []string{Base}
		change(&s)
		return s
	}
	want := []Spec{
		spec(Base, "/usr/lib/hapax/hapax-base", func(s *Spec) {
			s.Oneshot, s.Restart, s.After, s.StartTimeout = true, Never, nil, time.Minute
		}),
		spec("network", "/usr/lib/hapax/hapax-net", func(s *Spec) {
			s.Env, s.Ready, s.Restart, s.StartTimeout = []string{"HAPAX_READY_FD=3"}, Ready{Kind: ReadyFD, FD: 3}, OnFailure, 0
		}),
		spec("shell", "/bin/sh", func(s *Spec) {
			*s = Shell("/bin/sh", "HOME=/", "PS1=hapax# ")
			s.After, s.Log = []string{Base, Settled}, LogKmsg // of no use for one with a terminal
		}),
		spec("sshd", "/usr/sbin/dropbear", func(s *Spec) {
			s.Args, s.After, s.Ready = []string{"-F", "-R", "-p", "22"}, []string{Base, "network", "keys"}, Ready{Kind: ReadyTCP, Port: 22}
			s.Brake, s.OOMScore = Brake{100, 10 * time.Second, time.Minute}, -500
		}),
		spec("keys", "/bin/sh", func(s *Spec) {
			s.Args, s.Oneshot, s.Restart = []string{"-c", "echo \"a\\nb\"\nexit"}, true, OnFailure
			s.Delay, s.StartTimeout = 2*time.Second, time.Minute
		}),
		spec("web", "/srv/web", func(s *Spec) {
			s.Env = []string{"USER=www", "LOGNAME=www", "PORT=80", "HOME=/srv"}
			s.UID, s.GID, s.Groups, s.Dir, s.After = 33, 44, []uint32{5}, "/srv", []string{Base, Settled}
			s.Ready, s.StopTimeout, s.StopSignal = Ready{Kind: ReadyFD, FD: 4}, 90*time.Second, unix.SIGQUIT
			s.Limits, s.Log, s.LogSize = Limits{64 << 20, 20, 50, 150000}, "/var/log/web", 4<<20
		}),
		spec("getty", "/srv/web", func(s *Spec) { s.UID, s.GID, s.Brake, s.TTY = 7, 5, Brake{}, "/dev/ttyS1" }),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Parse (-want +got):\n%s", diff)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	x := "service x\nexec /x\n"
	for text, want := range map[string]string{
		"exec /x\n":              "line 2: exec: no service has begun",
		"service x\n":            "service x has no exec",
		"service x\nservice y\n": "line 3: service: service x has no exec",
		"service ../x\n":         "is no name",
		"service settled\n":      "is no name",
		"service \n":             "is no name",
		x + x:                    "line 4: service: x: said twice",
		x + "exec /y\n":          "line 4: exec: said twice",
		x + "exex /y\n":          "line 4: exex: unknown key",
		"service x\nexec y\n":    "no absolute path",
		x + "dir y\n":            "no absolute path",
		x + "arg \\x\n":          "a backslash before",
		x + "arg \\\n":           "a backslash before",
		x + "arg \x00\n":         "a zero byte",
		x + "env A\n":            "KEY=VALUE",
		x + "env =1\n":           "KEY=VALUE",
		x + "uid -1\n":           "no number from 0",
		x + "gid 4294967295\n":   "no number from 0",
		x + "group x\n":          "no number from 0",
		x + "type forking\n":     "unknown word",
		x + "after y\n":          "after y, which is not there",
		x + "after x\n":          "after itself",
		x + "after y\nservice y\nexec /y\nafter x\n": "after itself, by way of y",
		x + "ready\n":           "unknown word",
		x + "ready started:1\n": "unknown word",
		x + "ready fd:2\n":      "no number from 3",
		x + "ready file:x\n":    "no absolute path",
		x + "ready socket:/" + strings.Repeat("x", 107) + "\n": "at most 107 bytes",
		x + "ready tcp:65536\n":                                "no number from 1",
		x + "restart maybe\n":                                  "unknown word",
		x + "restart-delay 25h\n":                              "no time",
		x + "restart-delay -1s\n":                              "no time",
		x + "restart-delay 1\n":                                "no time",
		x + "brake 1 1s\n":                                     "want",
		x + "brake 0 1s 1s\n":                                  "no number from 1",
		x + "brake 1 1s x\n":                                   "no time",
		x + "stop-signal TERM\n":                               "unknown word",
		x + "tty ttyS0\n":                                      "no absolute path",
		x + "log syslog\n":                                     "no absolute path",
		x + "log-size 1\n":                                     "no number",
		x + "memory-max 0\n":                                   "no number",
		x + "oom-score 1001\n":                                 "no number",
		x + "oom-score 1\noom-score 1\n":                       "said twice",
		strings.Repeat("\n", maxFile):                          "more than",
		x + "\n":                                               "line 4: : unknown key",
	} {
		if _, err := Parse(Header + "\n" + text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.80q) = %v, want %q", text, err, want)
		}
	}
	if _, err := Parse("hapax-services 2\n"); err == nil {
		t.Error("another version is read")
	}
	var many strings.Builder
	for i := range maxServices + 1 {
		many.WriteString("service s" + itoa(i) + "\nexec /x\n")
	}
	if _, err := Parse(Header + "\n" + many.String()); err == nil || !strings.Contains(err.Error(), "more than 128 services") {
		t.Errorf("too many services: %v", err)
	}
}

// What Parse lets through a Manager can run, and end.
func FuzzParse(f *testing.F) {
	f.Add("service a\nexec /a\nafter b\nservice b\nexec /b\ntype oneshot\n")
	f.Add("service x\nexec /x\narg \\n\\\\\nbrake 1 1s 1s\nready fd:3\nmemory-max 7\n")
	f.Fuzz(func(t *testing.T, text string) {
		specs, err := Parse(Header + "\n" + text)
		if err != nil {
			if specs != nil {
				t.Error("services beside an error")
			}
			return
		}
		w := &world{t: t, procs: map[int]*fake{}, born: func(*fake) error { return nil }, watch: func(string) {}}
		m := New(specs, w, nil)
		w.m = m
		m.Reached(Base)
		m.Reached(Settled)
		m.Start()
		if len(specs) > 0 && len(w.begun) == 0 {
			t.Error("no service is the first one")
		}
		for slices.ContainsFunc(m.units, func(u *unit) bool { return u.state == Starting && u.Oneshot }) {
			for _, p := range w.procs {
				if p.alive && p.spec.Oneshot {
					p.alive = false
					m.Ended(p.pid, exited(0))
				}
			}
		}
		end := m.Stop()
		for len(w.ends) > 0 {
			e := w.ends[0]
			w.ends = w.ends[1:]
			m.Ended(e.pid, e.status)
		}
		<-end
	})
}
