package modload_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hapax/modload"
	"hapax/modload/modloadtest"
)

// A load that the others may have starved is tried once more when they have
// ended, and not before; its dependants wait for that.
func TestAgainWaitsForTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := modloadtest.NewKernel(t)
		x := new(modloadtest.Index).Add("big").Add("user", "big").Add("long").Add("next", "long")
		k.Starve("big", unix.ENOMEM)
		k.Delay("long", time.Second)
		k.Delay("next", time.Second)
		s := modload.New(modload.Options{Index: x, Load: k.Load, Workers: 4})
		for _, name := range []string{"next", "user"} {
			s.Request(name, modload.Origin{Kind: modload.Coldplug})
		}
		synctest.Wait()
		if got := states(s)["big"]; got != "waiting" {
			t.Errorf("big is %s while the others load, want waiting", got)
		}
		start := time.Now()
		if err := s.Load(t.Context(), "user"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("user came after %v, want 2s, when long and next had ended", d)
		}
		if c := s.Counters(); c.Finit != 5 || c.Live != 4 || c.Failed != 0 {
			t.Errorf("counters = %+v, want 5 calls for 4 live modules", c)
		}
	})
}

// The second answer stands, whatever it asks for.
func TestAgainIsOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		err   error
		errno unix.Errno
		want  string
	}{
		{unix.ENOMEM, unix.ENOMEM, "failed"},
		{refused(unix.EBUSY), unix.EBUSY, "refused"},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			s := modload.New(modload.Options{
				Index: new(modloadtest.Index).Add("m").Add("user", "m"),
				Load: func(modload.Job) modload.Result {
					calls++
					return modload.Result{Err: tt.err, Calls: 1, Again: true}
				},
			})
			if err := s.Load(t.Context(), "user"); !errors.Is(err, tt.errno) {
				t.Errorf("Load = %v, want %v in it", err, tt.errno)
			}
			if diff := cmp.Diff(map[string]string{"m": tt.want, "user": "failed"}, states(s)); diff != "" {
				t.Errorf("states (-want +got):\n%s", diff)
			}
			if calls != 2 {
				t.Errorf("%d calls, want 2", calls)
			}
		})
	}
}

// A hung module does not keep a starved one from its second try.
func TestAgainDoesNotWaitForHungModules(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := modloadtest.NewKernel(t)
		k.Starve("big", unix.ENOMEM)
		k.Delay("hung", time.Hour)
		s := modload.New(modload.Options{Index: new(modloadtest.Index).Add("big").Add("hung"), Load: k.Load, Workers: 2})
		s.Request("hung", modload.Origin{Kind: modload.Coldplug})
		start := time.Now()
		if err := s.Load(t.Context(), "big"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("big came after %v, want 10s, when hung was given up", d)
		}
		settle(t, s)
	})
}

// Drain takes the first answer of a load that waits for its second try.
func TestDrainEndsStarvedLoads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := modloadtest.NewKernel(t)
		k.Starve("big", unix.ENOMEM)
		k.Delay("long", time.Second)
		x := new(modloadtest.Index).Add("big").Add("long").Add("user", "big").Add("soft").Soft("soft", []string{"big"}, nil)
		s := modload.New(modload.Options{Index: x, Load: k.Load, Workers: 2})
		for _, name := range []string{"long", "user", "soft"} {
			s.Request(name, modload.Origin{Kind: modload.Coldplug})
		}
		synctest.Wait()
		if left := s.Drain(context.Background()); left != nil {
			t.Errorf("Drain left %q", left)
		}
		settle(t, s)
		want := map[string]string{"big": "failed", "long": "live", "user": "failed"} // soft was never started
		if diff := cmp.Diff(want, states(s)); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"big", "long"}, slices.Sorted(slices.Values(k.Log()))); diff != "" {
			t.Errorf("inserted (-want +got):\n%s", diff)
		}
	})
}
