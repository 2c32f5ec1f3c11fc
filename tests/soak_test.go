package tests

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/vm"
	"hapax/tests/need"
)

// soakRounds is set by make soak: the number of boots; 20 if not set.
const soakRounds = "HAPAX_SOAK_ROUNDS"

// TestSoak boots the same machine again and again, as many at a time as the host has cores: each boot reaches /sbin/init, hands
// every module to finit_module once by the kernel's own account, and powers off. It tells on standard error how far it is.
func TestSoak(t *testing.T) {
	need.Time(t)
	l, k := needFirst(t)
	image, err := l.HapaxImage(t.Context(), k, "--mode", "universal", "--compression", "none") // the fastest to unpack
	if err != nil {
		t.Fatal(err)
	}
	s := soak{rounds: setting(t, soakRounds, 20), start: time.Now()}
	t.Run("boots", func(t *testing.T) {
		for n := range s.rounds {
			t.Run(fmt.Sprintf("%04d", n), func(t *testing.T) {
				t.Parallel()
				defer func() { s.done(t.Failed()) }()
				v := vm.Run(t, l.Logs(), vm.Config{Machine: qemu.Machine{
					Kernel: k.Vmlinuz, Initrd: image, CPUs: 1 + n%2, Disks: []string{rootDisk(t, l, nil).File},
					Append: bootArgs + "root=UUID=" + rootUUID + " " + guest.TraceArgs,
				}})
				var begun guest.Start
				if err := guest.Await(v, time.Minute, "start", &begun); err != nil {
					t.Fatal(err)
				}
				c := client(t, v, time.Minute)
				checkUneventful(t, ask[report](t, c, guest.Report, ""), look(t, c))
				if err := v.Send(guest.PowerOff); err != nil {
					t.Fatal(err)
				}
				if err := v.WaitExit(time.Minute); err != nil {
					t.Errorf("power-off: %v", err)
				}
				s.reached(begun.Clock)
			})
		}
	})
	t.Log(s.String())
}

// A soak is the account of many boots.
type soak struct {
	rounds int
	start  time.Time

	mu     sync.Mutex      // protects what follows
	ended  int             // boots
	failed int             // of these
	clocks []time.Duration // guest's time at /sbin/init
}

func (s *soak) reached(clock time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clocks = append(s.clocks, clock)
}

// done counts a boot, and says now and then how far it is.
func (s *soak) done(failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended++
	if failed {
		s.failed++
	}
	if failed || s.ended%10 == 0 || s.ended == s.rounds {
		left := time.Since(s.start) / time.Duration(s.ended) * time.Duration(s.rounds-s.ended)
		fmt.Fprintf(os.Stderr, "soak: %d of %d boots, %d failed, %v to go\n", s.ended, s.rounds, s.failed, left.Round(time.Second))
	}
}

func (s *soak) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := fmt.Sprintf("%d boots in %v, %d failed", s.ended, time.Since(s.start).Round(time.Second), s.failed)
	if n := len(s.clocks); n > 0 {
		slices.Sort(s.clocks)
		text += fmt.Sprintf("; /sbin/init after %.2f, %.2f, %.2f s of guest time (min, median, max)",
			s.clocks[0].Seconds(), s.clocks[n/2].Seconds(), s.clocks[n-1].Seconds())
	}
	return text
}
