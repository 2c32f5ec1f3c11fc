package tests

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// make test-upcalls sets these for a larger storm.
const (
	stormCPUs   = "HAPAX_UPCALL_CPUS"   // processors of the guest; 8 if not set
	stormRounds = "HAPAX_UPCALL_ROUNDS" // rounds in which a module comes and goes; 20 if not set
)

func setting(t *testing.T, name string, normal int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return normal
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a number", name, text)
	}
	return n
}

// TestUpcallStorm has 200 threads ask for 20 modules at the same instant while the devices of the machine ask for them, too:
// each module is inserted once, and everybody is answered. Then one of them comes and goes, asked for from all sides each
// time.
func TestUpcallStorm(t *testing.T) {
	l := needQEMU(t)
	spec := lab.Kernels()[1]
	k := kernel(t, l, spec)
	m := matrix(spec, k)
	m.Icount = true // the kernel's patience with its helpers is a matter of time, and the host may be busy
	m.CPUs, m.Initrd = setting(t, stormCPUs, 8), upcallImage(t, l, k, upcallConfig)
	m.Append = bootArgs + "quiet rd.modules_load=hx_begin " + guest.UpcallArgs
	m.Extra = append(m.Extra, "-device", "virtio-rng-pci")
	v := vm.Run(t, l.Logs(), vm.Config{Machine: m, Limit: 20 * time.Minute})
	var acts map[string]int
	if err := guest.Await(v, 10*time.Minute, guest.Burst, &acts); err != nil {
		t.Fatal(err)
	}
	c := client(t, v, 10*time.Minute)
	c.Timeout = 10 * time.Minute
	if got := ask[map[string]int](t, c, guest.Burst, "200 socket 40 1 0"); got["0"] != 200 {
		t.Errorf("200 sockets of a family whose modules have to be loaded: %v", got)
	}
	got := look(t, c)
	r, asks := ask[report](t, c, guest.Report, ""), ask[guest.Asks](t, c, guest.Asked, "")
	if acts["ENXIO"] != 200 {
		t.Errorf("200 opens: %v", acts)
	}
	checkUneventful(t, r, got)
	checkInserters(t, c, asks)
	checkStorm(t, asks, r)
	if strings.Contains(ask[string](t, c, guest.Dmesg, ""), "kmod busy") {
		t.Error("the kernel says kmod busy")
	}
	tryRounds(t, c, got, r)
}

// checkStorm checks that each request was answered with success.
func checkStorm(t *testing.T, asks guest.Asks, r report) {
	t.Helper()
	requests := 0
	var slowest time.Duration
	for _, q := range asks.Requests {
		if strings.HasPrefix(q.Name, "char-major-120-") {
			requests++
			slowest = max(slowest, q.Took)
			if q.Answer != 0 {
				t.Errorf("%+v, want answer 0", q)
			}
		}
	}
	if requests != 200 || asks.Open != 0 {
		t.Errorf("%d requests of the storm, %d without an answer; want 200, all answered", requests, asks.Open)
	}
	kinds := map[string]int{}
	for i := range chained {
		m := r.module(chainLink(i))
		if m.State != "live" {
			t.Errorf("report: %+v", m)
		}
		kinds[m.Origin.Kind]++
	}
	t.Logf("%s: 200 requests of the kernel for %d modules, %d of them for what was on its way or there; first asked for by %v; slowest answer %.2f s",
		r.Kernel, chained, r.UpcallHits, kinds, slowest.Seconds())
}

// tryRounds removes one of the modules again and again and has it asked for by the kernel and by the uevent of its device at
// the same instant; in the end removals and requests come at the same instant, too.
func tryRounds(t *testing.T, c guest.Client, before coldplugged, r report) {
	t.Helper()
	rounds := setting(t, stormRounds, 20)
	uevent := ""
	for _, d := range before.devices {
		if strings.HasPrefix(d.Modalias, strings.TrimSuffix(entropy, "*")) {
			uevent = "/sys" + d.Path + "/uevent"
		}
	}
	name := chainLink(0)
	acts := ask[map[string]int](t, c, guest.Rounds, fmt.Sprintf("%d 6 %s %s %s", rounds, name, uevent, opens(10)))
	if acts["ENXIO"] != 6*rounds || acts["0"] != rounds {
		t.Errorf("%d rounds: %v", rounds, acts)
	}
	after := settledReport(t, c)
	if n := after.Removed - r.Removed; n != rounds || after.Finit-r.Finit != rounds || after.Duplicates != 0 {
		t.Errorf("%d rounds: %d removed, %d calls, %d duplicates", rounds, n, after.Finit-r.Finit, after.Duplicates)
	}

	ask[map[string]int](t, c, guest.Burst, fmt.Sprintf("%d %s;%s;%s %s", 60, opens(10), opens(10), guest.Remove, name))
	end := settledReport(t, c)
	there := 0
	if loaded(t, c, name)[name] {
		there = 1
	}
	removed, calls := end.Removed-after.Removed, end.Finit-after.Finit
	if removed == 0 || 1+calls-removed != there || end.Duplicates != 0 {
		t.Errorf("removals among requests: %d removed, %d calls, %d duplicates, and there is %d", removed, calls, end.Duplicates, there)
	}
	trace := ask[guest.Trace](t, c, guest.Finit, "")
	if end.Finit != trace.Finit.Total || trace.Lost || trace.Finit.Results["0"]+end.Refused != trace.Finit.Total {
		t.Errorf("report: %d calls; the kernel recorded %+v", end.Finit, trace)
	}
	t.Logf("%d rounds with 6 requests of the kernel and one of a device: one call each; 20 removals among 40 requests: %d removed, %d calls",
		rounds, removed, calls)
}

// settledReport returns the report once the guest is quiet.
func settledReport(t *testing.T, c guest.Client) report {
	t.Helper()
	ask[any](t, c, guest.Quiet, "")
	return ask[report](t, c, guest.Report, "")
}
