package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A fakeServer answers as it is told, and notes when it was asked.
type fakeServer struct {
	begin time.Time
	log   []string

	obtained  func() (lease, error)
	prolonged func(anyone bool) (lease, error)
}

func (f *fakeServer) note(format string, args ...any) {
	f.log = append(f.log, fmt.Sprintf("%v ", time.Since(f.begin).Round(time.Second))+fmt.Sprintf(format, args...))
}

// answer waits as a client does that gets none.
func (f *fakeServer) answer(ctx context.Context, l lease, err error) (lease, error) {
	if errors.Is(err, errSilence) {
		<-ctx.Done()
		return lease{}, ctx.Err()
	}
	return l, err
}

func (f *fakeServer) obtain(ctx context.Context, last netip.Addr) (lease, error) {
	f.note("obtain %v", last)
	l, err := f.obtained()
	return f.answer(ctx, l, err)
}

func (f *fakeServer) prolong(ctx context.Context, l lease, anyone bool) (lease, error) {
	f.note("prolong %v", anyone)
	next, err := f.prolonged(anyone)
	return f.answer(ctx, next, err)
}

var errSilence = errors.New("no answer")

// hour is a lease of that length.
func hour() lease {
	return lease{
		prefix: netip.MustParsePrefix("10.0.0.5/24"), server: netip.MustParseAddr("10.0.0.1"),
		renew: 30 * time.Minute, rebind: 50 * time.Minute, expire: time.Hour,
	}
}

// play has keep run for a time with a server, and returns what happened.
func play(t *testing.T, d time.Duration, f *fakeServer, again <-chan struct{}) []string {
	t.Helper()
	f.begin = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	keep(ctx, f, again, func(string, ...any) {}, func(l lease) { f.note("bound %v", l.prefix.Addr()) }, func() { f.note("lost") })
	return f.log
}

func compare(t *testing.T, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what happened (-want +got):\n%s", diff)
	}
}

func TestKeepRenews(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeServer{
			obtained:  func() (lease, error) { return hour(), nil },
			prolonged: func(bool) (lease, error) { return hour(), nil },
		}
		compare(t, []string{
			"0s obtain invalid IP", "0s bound 10.0.0.5", "30m0s prolong false", "30m0s bound 10.0.0.5", "1h0m0s prolong false", "1h0m0s bound 10.0.0.5",
		}, play(t, 80*time.Minute, f, nil))
	})
}

// The server goes silent: asked again less and less, then all servers are, and at the end the address is given up to the second.
func TestKeepUntilTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		silent := false
		f := &fakeServer{
			obtained: func() (lease, error) {
				if silent {
					return lease{}, errSilence
				}
				silent = true
				return hour(), nil
			},
			prolonged: func(bool) (lease, error) { return lease{}, errSilence },
		}
		log := play(t, time.Hour+10*time.Second, f, nil)
		if !slices.Contains(log, "1h0m0s lost") || !slices.Contains(log, "1h0m0s obtain 10.0.0.5") {
			t.Errorf("the lease was not given up after an hour: %q", log)
		}
		first := slices.Index(log, "50m0s prolong true")
		if first < 0 || slices.Contains(log[first:], "prolong false") {
			t.Errorf("not all servers are asked from the 50th minute on: %q", log)
		}
		if n := len(log); n > 30 {
			t.Errorf("%d events in an hour: %q", n, log)
		}
	})
}

func TestKeepRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeServer{
			obtained:  func() (lease, error) { return hour(), nil },
			prolonged: func(bool) (lease, error) { return lease{}, errRefused },
		}
		compare(t, []string{
			"0s obtain invalid IP", "0s bound 10.0.0.5", "30m0s prolong false", "30m0s lost", "30m0s obtain 10.0.0.5", "30m0s bound 10.0.0.5",
		}, play(t, 40*time.Minute, f, nil))
	})
}

// A server that grants nothing and refuses everything is not asked without end.
func TestKeepIsPatient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeServer{obtained: func() (lease, error) { return lease{}, errors.New("rubbish") }}
		log := play(t, time.Hour, f, nil)
		if n := len(log); n < 50 || n > 80 {
			t.Errorf("asked %d times in an hour, want about once a minute", n)
		}
		short := hour()
		short.renew, short.rebind, short.expire = shortest/2, shortest/8*7, shortest
		f = &fakeServer{
			obtained:  func() (lease, error) { return short, nil },
			prolonged: func(bool) (lease, error) { return short, nil },
		}
		if n := len(play(t, time.Minute, f, nil)); n > 150 {
			t.Errorf("%d events in a minute", n)
		}
	})
}

// A cable that was pulled and put in again may lead elsewhere.
func TestKeepConfirms(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		other := hour()
		other.prefix = netip.MustParsePrefix("192.168.0.9/24")
		f := &fakeServer{
			obtained:  func() (lease, error) { return hour(), nil },
			prolonged: func(bool) (lease, error) { return other, nil },
		}
		again := make(chan struct{}, 1)
		time.AfterFunc(5*time.Minute, func() { again <- struct{}{} })
		compare(t, []string{"0s obtain invalid IP", "0s bound 10.0.0.5", "5m0s prolong true", "5m0s bound 192.168.0.9"}, play(t, 30*time.Minute, f, again))
	})
}

// Behind the cable is a network whose server keeps silent about the lease of another one, and gives its own.
func TestKeepElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		other := hour()
		other.prefix = netip.MustParsePrefix("192.168.0.9/24")
		there := 0
		f := &fakeServer{
			obtained: func() (lease, error) {
				switch there++; there {
				case 1:
					return hour(), nil
				case 2:
					return lease{}, errSilence
				}
				return other, nil
			},
			prolonged: func(bool) (lease, error) { return lease{}, errSilence },
		}
		again := make(chan struct{}, 1)
		time.AfterFunc(5*time.Minute, func() { again <- struct{}{} })
		compare(t, []string{
			"0s obtain invalid IP", "0s bound 10.0.0.5", "5m0s prolong true", "5m30s obtain 10.0.0.5", "7m0s prolong true", "7m30s obtain 10.0.0.5",
			"7m30s bound 192.168.0.9",
		}, play(t, 30*time.Minute, f, again))
	})
}

func TestKeepForever(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeServer{obtained: func() (lease, error) {
			l := hour()
			l.renew, l.rebind, l.expire = forever, forever, forever
			return l, nil
		}}
		compare(t, []string{"0s obtain invalid IP", "0s bound 10.0.0.5"}, play(t, 10000*time.Hour, f, nil))
	})
}
