package tests

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hapax/tests/internal/guest"
	"hapax/tests/need"
)

// braked is what PID 1 says when it starts no other engine.
const braked = "the engine ended 7 times"

// TestStandaloneWithoutEngine kills the engine of a machine that stays until PID 1 starts no other. Its services are asked for,
// stopped and started all the same, at the socket of PID 1. One that is stopped leaves nothing behind, whatever its processes
// make of SIGTERM and of their sessions.
func TestStandaloneWithoutEngine(t *testing.T) {
	need.Time(t)
	m := standalone(t, diskOnData+`
[[service]]
name = "talker"
exec = "/bin/busybox"
args = ["sh", "-c", "echo talker is process $$; exec sleep 1000000"]
after = ["data"]

[[service]]
name = "polite"
exec = "/bin/busybox"
args = ["sh", "-c", "trap 'exit 0' TERM; (trap '' TERM HUP; for n in 1 2 3; do setsid sh -c 'sh -c \"sleep 100000\" & sleep 100000' & done); while :; do sleep 1; done"]

[[service]]
name = "stubborn"
exec = "/bin/busybox"
args = ["sh", "-c", "trap '' TERM; for n in 1 2 3; do setsid sh -c 'sh -c \"sleep 100000\" & sleep 100000' & done; while :; do sleep 1; done"]
stop-timeout = "1s"
`)
	m.done(t, "data")
	m.killEngines(t)
	ctl := func(args string) string {
		t.Helper()
		e := m.run(t, "/sbin/hapaxctl "+args)
		if e.Code != 0 {
			t.Errorf("hapaxctl %s: exit code %d: %s", args, e.Code, e.Output)
		}
		return e.Output
	}
	if e := m.run(t, "/sbin/hapaxctl status"); e.Code != 1 || !strings.Contains(e.Output, "engine") {
		t.Errorf("hapaxctl status asks the engine, which is not there: %+v", e)
	}
	first := m.status(t, "talker")
	if out := ctl("status talker"); !strings.Contains(out, " up ") || !strings.Contains(out, fmt.Sprint(first.Pid)) {
		t.Errorf("hapaxctl status talker: %s, want process %d", out, first.Pid)
	}
	if out := ctl("log talker"); out != fmt.Sprintf("talker is process %d\n", first.Pid) {
		t.Errorf("hapaxctl log talker: %q", out)
	}
	ctl("stop talker")
	if s := m.status(t, "talker"); s.State != "stopped" || s.Pid != 0 {
		t.Errorf("stopped: %+v", s)
	}
	ctl("start talker")
	if s := m.status(t, "talker"); s.State != "up" || s.Pid == first.Pid || s.Starts != 2 {
		t.Errorf("started: %+v", s)
	}
	for _, name := range []string{"polite", "stubborn"} {
		group := "/sys/fs/cgroup/hapax/" + name + "/cgroup.procs"
		if n := strings.Count(ask[string](t, m.Client, guest.Cat, group), "\n"); n < 7 {
			t.Errorf("%s has %d processes, want a family", name, n)
		}
		ctl("stop " + name)
		if left := ask[string](t, m.Client, guest.Cat, group); left != "" {
			t.Errorf("of %s these are left: %q", name, left)
		}
	}
	if sleep := ask[[]int](t, m.Client, guest.Pids, "sleep"); len(sleep) != 1 { // the talker
		t.Errorf("descendants of services are left: %v", sleep)
	}
	m.powerOff(t)
}

// killEngines kills one engine after the other, until there is none.
func (m machine) killEngines(t *testing.T) {
	t.Helper()
	var killed []int
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		for _, pid := range ask[[]int](t, m.Client, guest.Pids, "hapax-engine") {
			if !slices.Contains(killed, pid) {
				killed = append(killed, pid)
				ask[any](t, m.Client, guest.Kill, fmt.Sprint(pid, " 9"))
			}
		}
		if strings.Contains(ask[string](t, m.Client, guest.Dmesg, ""), braked) {
			t.Logf("killed %d engines", len(killed))
			return
		}
	}
	t.Fatalf("killed %d engines, and there is another", len(killed))
}
