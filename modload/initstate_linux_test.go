package modload

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"hapax/modload/modindex"
)

func TestPresentIn(t *testing.T) {
	t.Parallel()
	const text = `virtio_net 73728 0 - Live 0xffffffffc0333000
net_failover 24576 1 virtio_net, Live 0xffffffffc02a5000 (E)
slow 16384 0 - Loading 0xffffffffc02a0000
gone 16384 0 - Unloading 0xffffffffc02a0000
short line
`
	if diff := cmp.Diff([]string{"virtio_net", "net_failover"}, presentIn(text)); diff != "" {
		t.Errorf("presentIn (-want +got):\n%s", diff)
	}
}

// Another program's module is waited for, until it is live or gone, or the wait
// has been long enough.
func TestAwaitForeign(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		during, final string
		after, want   time.Duration
	}{
		{"coming", "live", 20 * time.Second, 20 * time.Second},
		{"coming", "", 20 * time.Second, 20 * time.Second},
		{"going", "", 29 * time.Second, 29 * time.Second},
		{"coming", "coming", time.Hour, foreignLimit},
		{"going", "going", time.Hour, foreignLimit},
	} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			k := &Kernel{initstate: func(string) string {
				if time.Since(begun) < tt.after {
					return tt.during
				}
				return tt.final
			}}
			if got := k.awaitForeign("m"); got != tt.final {
				t.Errorf("awaitForeign = %q, want %q", got, tt.final)
			}
			if late := time.Since(begun) - tt.want; late < 0 || late > 100*time.Millisecond {
				t.Errorf("answered after %v, want %v", time.Since(begun), tt.want)
			}
		})
	}
}

// A module that somebody else never finishes fails by itself, without a call.
func TestForeignOverdue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &Kernel{initstate: func(string) string { return "coming" }}
		k.policy.Store(&policy{})
		res := k.Load(Job{Module: modindex.Module{Name: "m"}})
		if !errors.Is(res.Err, ErrOverdue) || res.Calls != 0 {
			t.Errorf("Load = %+v, want ErrOverdue and no call", res)
		}
	})
}
