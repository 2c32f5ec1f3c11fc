package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A wait without a limit names none.
func TestProgressForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "root=LABEL=a rootwait")
		var c console
		go l.progress(&c)
		time.Sleep(3500 * time.Millisecond)
		l.giveUp()
		time.Sleep(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff([]string{"hapax: waiting for root=LABEL=a, 3 s\n"}, c.lines); diff != "" {
			t.Errorf("lines (-want +got):\n%s", diff)
		}
	})
}
