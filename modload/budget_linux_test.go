package modload

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"
)

// budgetOf returns a budget of so many bytes, however few.
func budgetOf(size int64) budget { return budget{size, semaphore.NewWeighted(size)} }

func TestNewBudget(t *testing.T) {
	t.Parallel()
	for memory, want := range map[int64]int64{
		0:         leastBudget, // a machine that does not tell
		128 << 20: leastBudget,
		1 << 30:   64 << 20,
		1 << 40:   mostBudget,
	} {
		if got := newBudget(memory); got.size != want || !got.bytes.TryAcquire(want) || got.bytes.TryAcquire(1) {
			t.Errorf("newBudget(%d) = %d bytes, want %d", memory, got.size, want)
		}
	}
}

// Each case charges for a first file, which is given back after two thirds of a
// second or never, and then for a second one.
func TestCharge(t *testing.T) {
	t.Parallel()
	const freed = 600 * time.Millisecond
	tests := []struct {
		name          string
		first, second int64
		packed        bool // the second
		express       bool // the second
		keep          bool
		waits         time.Duration
	}{
		{name: "both fit", first: 60, second: 40},
		{name: "one byte too many", first: 60, second: 41, waits: freed},
		{name: "packed and fits", first: 60, second: 40 / unpacksTo, packed: true},
		{name: "packed and would not fit", first: 60, second: 40/unpacksTo + 1, packed: true, waits: freed},
		{name: "larger than all", first: 1, second: 1 << 40, waits: freed},
		{name: "after one larger than all", first: 1 << 40, second: 1, waits: freed},
		{name: "the init function hangs", first: 100, second: 100, keep: true, waits: chargedFor},
		{name: "express", first: 100, second: 100, express: true},
		{name: "express beside one that hangs", first: 100, second: 100, express: true, keep: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := budgetOf(100)
				free := b.charge(tt.first, false, false)
				if !tt.keep {
					time.AfterFunc(freed, free)
				}
				begun := time.Now()
				again := b.charge(tt.second, tt.packed, tt.express)
				if waited := time.Since(begun); waited != tt.waits {
					t.Errorf("the second file waited %v, want %v", waited, tt.waits)
				}
				again()
				time.Sleep(chargedFor)
				free() // at last; to give back twice would panic
				again()
				if !b.bytes.TryAcquire(100) || b.bytes.TryAcquire(1) {
					t.Error("in the end the budget is not what it was")
				}
			})
		})
	}
}

// Files are read in the order of their coming, so that a large one is not put
// off for ever by small ones.
func TestChargeIsFair(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budgetOf(100)
		free := b.charge(60, false, false)
		var order []string
		for _, f := range []struct {
			name string
			size int64
		}{{"large", 100}, {"small", 1}} {
			go func() {
				done := b.charge(f.size, false, false)
				order = append(order, f.name)
				done()
			}()
			synctest.Wait()
		}
		free()
		synctest.Wait()
		if len(order) != 2 || order[0] != "large" {
			t.Errorf("read in the order %v, want the large one first", order)
		}
	})
}

// The bytes of a module whose init function hangs hold up the next one for a
// second, those of one that fails or succeeds at once not at all.
func TestLoadGivesBack(t *testing.T) {
	t.Parallel()
	for name, hangs := range map[string]bool{"hangs": true, "fails": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := script{}
				k, m := s.play(t)
				k.reading = budgetOf(1000) // the size of the file
				calls, want := 0, time.Duration(0)
				if hangs {
					want = chargedFor
				}
				k.finit = func(string, int, string, int) error {
					if calls++; calls > 1 {
						return nil
					}
					if hangs {
						time.Sleep(time.Hour)
					}
					return unix.ENOEXEC
				}
				begun := time.Now()
				go k.Load(Job{Module: m})
				synctest.Wait()
				if res := k.Load(Job{Module: m}); res.Err != nil {
					t.Error(res.Err)
				}
				if waited := time.Since(begun); waited != want {
					t.Errorf("the second load took %v, want %v", waited, want)
				}
				time.Sleep(time.Hour)
			})
		})
	}
}
