package tests

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/internal/vm"
)

// How long a circle of requests may hold up a boot: one that the engine sees, and one that it does not. An engine that is
// not told who asks breaks one circle at a time.
const (
	seenLimit   = 2 * time.Second
	furtherSeen = 200 * time.Millisecond // for each circle that is there at the same time
	unseenLimit = 31 * time.Second       // hapax gives up after 30 s, the rest is the kernel's and the helper's
)

// circles are the parameters of modules whose init functions ask for what waits for them, and of the chain.
func circles() string {
	args := "hx_self.request=hx-self hx_own.request=hx-both hx_base.request=hx_user hx_first.request=hx_second hx_second.request=hx_third " +
		"hx_thread.kthread=1 hx_thread.request=hx-thread hx_slow.ms=3000 hx_slower.ms=1500 "
	for i := range chained - 1 {
		args += chainLink(i) + ".request=" + chainLink(i+1) + " "
	}
	return args
}

// TestCircles boots with modules whose init functions ask for themselves, for what depends on them, and for each other in a
// chain that is longer than there are workers. With tracefs the engine is told who asks; without it has to find out. The
// clock counts instructions, so a busy host does not change what it shows.
func TestCircles(t *testing.T) {
	l, k := needFirst(t)
	for _, traced := range []bool{true, false} {
		t.Run(fmt.Sprintf("traced=%t", traced), func(t *testing.T) {
			t.Parallel()
			c := bootCircles(t, l, k, traced)
			r := ask[report](t, c, guest.Report, "")
			if traced {
				checkCircles(t, c, r, seenLimit)
				tryThread(t, c)
			} else {
				checkCircles(t, c, r, seenLimit+time.Duration(r.Loops-1)*furtherSeen)
				tryKilling(t, c)
			}
		})
	}
}

func bootCircles(t *testing.T, l *lab.Lab, k debian.Kernel, traced bool) guest.Client {
	t.Helper()
	args := bootArgs + "quiet " + circles() + "hapax.workers=2 rd.modules_load=hx_self,hx_own,hx_base,hx_first," + chainLink(0) + " " + guest.UpcallArgs
	if traced {
		args += " hapax.trace"
	}
	v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
		Kernel: k.Vmlinuz, Icount: true, Initrd: upcallImage(t, l, k, ""), Append: args,
	}})
	return client(t, v, time.Minute)
}

// answered is a line that a test module prints.
var answered = regexp.MustCompile(`(hx_\w+): asked for (\S+): (-?\d+) after (\d+) ms`)

// answers returns the answers that init functions got, by "module asked", from the kernel's log, and the longest wait.
func answers(t *testing.T, c guest.Client) (map[string]string, time.Duration) {
	t.Helper()
	all := map[string]string{}
	var longest time.Duration
	for _, m := range answered.FindAllStringSubmatch(ask[string](t, c, guest.Dmesg, ""), -1) {
		all[m[1]+" "+m[2]] = m[3]
		ms, err := strconv.Atoi(m[4])
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, time.Duration(ms)*time.Millisecond)
	}
	return all, longest
}

// checkCircles checks the answers, and that everything is live, by one call each, and no init function waited for longer
// than limit.
func checkCircles(t *testing.T, c guest.Client, r report, limit time.Duration) {
	t.Helper()
	got, longest := answers(t, c)
	want := map[string]string{
		"hx_self hx-self":    "256", // it cannot wait for itself
		"hx_own hx-both":     got["hx_own hx-both"],
		"hx_base hx_user":    "256", // which needs it, and comes later
		"hx_first hx_second": "0",
		"hx_second hx_third": "256", // which needs hx_first, and comes later
	}
	modules := []string{"hx_self", "hx_own", "hx_other", "hx_base", "hx_user", "hx_first", "hx_second", "hx_third"}
	for i := range chained {
		modules = append(modules, chainLink(i))
		if i > 0 {
			want[chainLink(i-1)+" "+chainLink(i)] = "0"
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	for _, name := range modules {
		if m := r.module(name); m.State != "live" {
			t.Errorf("report: %+v, want %s live", m, name)
		}
	}
	checkUneventful(t, r, look(t, c))
	if longest > limit || r.Loops != 4 {
		t.Errorf("%d circles, and an init function waited %v for an answer; want 4 and at most %v", r.Loops, longest, limit)
	}
	if r.Overdue != 0 {
		t.Errorf("report: %d requests were given up after 30 s, want none: all circles can be seen", r.Overdue)
	}
	checkInserters(t, c, ask[guest.Asks](t, c, guest.Asked, ""))
	t.Logf("%s: %d requests of init functions, %d circles; longest wait %v of guest time; settled %.2f s after the engine's start",
		r.Kernel, r.Upcalls, r.Loops, longest, (r.Clock.Settled-r.Clock.Engine)/1000)
}

// tryThread loads a module whose init function waits for another thread, which asks for the module: nothing in the kernel
// tells that the one waits for the other.
func tryThread(t *testing.T, c guest.Client) {
	t.Helper()
	runs(t, c, 0, "/sbin/modprobe hx_thread")
	got, took := answers(t, c) // no other wait is as long; between two questions of ours the counted clock of an idle guest runs ahead
	if got["hx_thread hx-thread"] != "256" || took > unseenLimit {
		t.Errorf("a request by another thread: answer %q after %v; want 256 within %v", got["hx_thread hx-thread"], took, unseenLimit)
	}
	if r := settledReport(t, c); r.Overdue != 1 || r.Duplicates != 0 {
		t.Errorf("report: %d overdue, %d duplicates, want 1 and none", r.Overdue, r.Duplicates)
	}
	t.Logf("a circle through another thread: broken after %.2f s of guest time", took.Seconds())
}

// tryKilling kills all helpers that wait for a module, and then the engine while 50 of them do.
func tryKilling(t *testing.T, c guest.Client) {
	t.Helper()
	const waiting = 50 // as many as the kernel starts at one time
	killed := ask[guest.Killed](t, c, guest.Killing, fmt.Sprintf("1000 modprobe %d %s", waiting, opens(minorSlow)))
	if killed.Processes != waiting || killed.Acts["ENXIO"] != waiting {
		t.Errorf("%+v, want %d helpers killed and as many opens ended", killed, waiting)
	}
	if r := settledReport(t, c); r.module("hx_slow").State != "live" || r.Duplicates != 0 {
		t.Errorf("report after its helpers were killed: %+v, %d duplicates", r.module("hx_slow"), r.Duplicates)
	}

	killed = ask[guest.Killed](t, c, guest.Killing, fmt.Sprintf("500 %s %d %s", engineName, waiting, opens(minorSlower)))
	if killed.Processes != 1 || killed.Acts["ENXIO"] != waiting {
		t.Errorf("%+v, want the engine killed and %d opens ended", killed, waiting)
	}
	if r := settledReport(t, c); r.Restarts != 1 || r.Duplicates != 0 || r.Finit != 0 {
		t.Errorf("report of the second engine: restart %d, %d calls, %d duplicates; want restart 1 and no call", r.Restarts, r.Finit, r.Duplicates)
	}
	asks := ask[guest.Asks](t, c, guest.Asked, "")
	ends := map[string]int{}
	for _, q := range asks.Requests {
		if q.Name == char(minorSlow) || q.Name == char(minorSlower) {
			ends[fmt.Sprint(q.Name, " ", q.Answer)]++
		}
	}
	want := map[string]int{char(minorSlow) + " 9": waiting, char(minorSlower) + " 0": waiting} // 9 is the wait status of SIGKILL
	if diff := cmp.Diff(want, ends); diff != "" || asks.Open != 0 {
		t.Errorf("%d requests are open yet; answers (-want +got):\n%s", asks.Open, diff)
	}

	// All places are free again.
	if got := ask[map[string]int](t, c, guest.Burst, "200 "+opens(minorSlower)); got["ENXIO"] != 200 {
		t.Errorf("200 requests after that: %v", got)
	}
	after := ask[guest.Asks](t, c, guest.Asked, "")
	for _, q := range after.Requests[len(asks.Requests):] {
		if q.Answer != 0 {
			t.Errorf("after that: %+v", q)
		}
	}
	if strings.Contains(ask[string](t, c, guest.Dmesg, ""), "kmod busy") {
		t.Error("the kernel says kmod busy")
	}
	t.Logf("%d helpers killed, then the engine under %d helpers: all answered, and 200 more", waiting, waiting)
}
