package klog_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/klog"
)

// records keeps each Write apart, as /dev/kmsg does.
type records []string

func (r *records) Write(b []byte) (int, error) {
	*r = append(*r, string(b))
	return len(b), nil
}

func TestRecords(t *testing.T) {
	t.Parallel()
	var got records
	l := klog.New(&got, cmdline.Info)
	l.Debugf("not due")
	l.Infof("two\nlines of %s", "info")
	l.Warnf("label \x1b[2J\xff\u009b ü")
	l.Errorf("%s", strings.Repeat("x", 2000))
	want := records{
		"<6>hapax: two\n", "<6>hapax: lines of info\n",
		"<4>hapax: label ?[2J?? ü\n",
		"<3>hapax: " + strings.Repeat("x", 900) + "\n",
		"<3>hapax: " + strings.Repeat("x", 900) + "\n",
		"<3>hapax: " + strings.Repeat("x", 200) + "\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	var none *klog.Logger
	none.Errorf("dropped")
}
