package modload

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
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

// Another program's module is waited for, however long that takes.
func TestAwaitForeign(t *testing.T) {
	t.Parallel()
	for final, before := range map[string][]string{"live": {"coming"}, "": {"going", "coming"}} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			k := &Kernel{initstate: func(string) string {
				if left := time.Hour - time.Since(begun); left > 0 {
					return before[int(left)%len(before)]
				}
				return final
			}}
			if got := k.awaitForeign("m"); got != final {
				t.Errorf("awaitForeign = %q, want %q", got, final)
			}
			if late := time.Since(begun) - time.Hour; late < 0 || late > 100*time.Millisecond {
				t.Errorf("answered %v after the module was %q", late, final)
			}
		})
	}
}
