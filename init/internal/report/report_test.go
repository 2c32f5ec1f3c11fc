package report_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hapax/init/internal/report"
	"hapax/modload"
)

// The order and names of the first fields are an interface: scripts cut the
// line.
func TestLine(t *testing.T) {
	t.Parallel()
	s := report.Summary{Requests: 12, Coalesced: 3, Finit: 7, Live: 6, Refused: 1, SettleMS: 41.5}
	got := s.Line()
	want := `hapax-report: {"requests":12,"coalesced":3,"finit":7,"live":6,"refused":1,"failed":0,"duplicates":0,"upcalls":0,"overruns":0,"settle_ms":41.5,`
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "}\n") || strings.Count(got, "\n") != 1 {
		t.Errorf("Line = %q, want it to begin with %q", got, want)
	}
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hapax", "boot.json")
	b := &report.Boot{
		Kernel:  "6.1.0-1-amd64",
		Summary: report.Summary{Live: 1},
		Root:    &report.Root{Ref: "UUID=x", Device: "/dev/vda"},
		Modules: []modload.Module{{Name: "virtio", State: modload.Live, Origin: modload.Origin{Kind: modload.Uevent, By: "/devices/x"}}},
	}
	for range 2 { // the second time over the first
		if err := b.WriteFile(path); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Kernel  string
		Live    int
		Root    struct{ Device string }
		Modules []struct {
			Name, State string
			Origin      struct{ Kind, By string }
		}
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got.Kernel != b.Kernel || got.Live != 1 || got.Root.Device != "/dev/vda" {
		t.Errorf("report = %+v", got)
	}
	if len(got.Modules) != 1 || got.Modules[0].State != "live" || got.Modules[0].Origin.Kind != "uevent" {
		t.Errorf("modules = %+v", got.Modules)
	}
	if _, err := os.Stat(path + ".new"); err == nil {
		t.Error("the temporary file is still there")
	}
	if now := report.Now(); now <= 0 {
		t.Errorf("Now = %v", now)
	}
}
