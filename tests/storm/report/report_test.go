package report

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/tests/internal/guest"
	"hapax/tests/storm/modstats"
)

// sample returns a hapax run that keeps all promises, and the runs that it is compared with.
func sample() (*File, *Run) {
	f := new(File)
	add := func(contender string, seconds float64, results map[string]int, stats modstats.Stats, use guest.Use) *Run {
		r := &Run{Kernel: "nomerge", CPUs: 64, Contender: contender, Seconds: seconds, Use: use, Stats: &stats}
		r.Trace.Finit.Results = results
		for _, n := range results {
			r.Trace.Finit.Total += n
		}
		r.Modules = []string{"virtio", "virtio_blk", "kvm"}
		f.Put(r)
		return r
	}
	add(guest.Udevd, 9.3, map[string]int{"0": 4, "EEXIST": 7, "EBUSY": 2, "ENODEV": 6},
		modstats.Stats{Loaded: 4, FailedBecoming: 6, FailedLoad: 3, Wasted: 228e6, Duplicates: []modstats.Duplicate{
			{Module: "virtio", Times: 2, Reason: "Load"}, {Module: "kvm", Times: 7, Reason: "Becoming & Load"},
		}}, guest.Use{Before: 8000e6, Low: 6000e6, Free: 6700e6, Processes: 900}).Modules = []string{"kvm", "virtio", "sg", "virtio_blk"}
	hapax := add(guest.Hapax, 2.8, map[string]int{"0": 3, "ENODEV": 1}, modstats.Stats{Loaded: 3},
		guest.Use{Before: 8000e6, Low: 7900e6, Free: 7950e6, Processes: 40})
	hapax.Hapax = &Hapax{Finit: 4, Live: 3, Refused: 1}
	add(guest.Oracle, 2.7, map[string]int{"0": 3}, modstats.Stats{Loaded: 3},
		guest.Use{Before: 8000e6, Low: 7940e6, Free: 7960e6, Processes: 9})
	return f, hapax
}

// broken returns the promises that a run did not keep.
func broken(f *File, r *Run) []string {
	var all []string
	for _, v := range f.Verdicts(r) {
		if !v.Kept {
			all = append(all, v.Promise)
		}
	}
	return all
}

func TestVerdicts(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(r *Run)
		want   []string
	}{
		"all kept":      {func(*Run) {}, nil},
		"tried again":   {func(r *Run) { r.Hapax.Retried = 2; r.Trace.Finit.Total += 2 }, nil},
		"one call more": {func(r *Run) { r.Trace.Finit.Total++ }, []string{"finit_module calls = live + refused"}},
		"calls lost":    {func(r *Run) { r.Trace.Lost = true }, []string{"finit_module calls = live + refused"}},
		"init_module":   {func(r *Run) { r.Trace.Finit.Total--; r.Trace.Init.Total++ }, []string{"finit_module calls = live + refused"}},
		"EEXIST":        {func(r *Run) { r.Trace.Finit.Results["EEXIST"] = 1 }, []string{"no call for a module that is there or on its way"}},
		"own EEXIST": {func(r *Run) {
			r.Trace.Finit.Results = map[string]int{"0": 3, "EEXIST": 1}
			r.Boot = []byte(`{"modules":[{"state":"refused","error":"load pcc_cpufreq: finit_module: refused by its init function: file exists"}]}`)
		}, nil},
		"ETXTBSY":        {func(r *Run) { r.Trace.Init.Results = map[string]int{"ETXTBSY": 1} }, []string{"no call for a module that is there or on its way"}},
		"decompress":     {func(r *Run) { r.Stats.FailedDecompress = 1 }, []string{"the kernel counts no failed load"}},
		"waste":          {func(r *Run) { r.Stats.Wasted = 1 }, []string{"no memory wasted"}},
		"listed":         {func(r *Run) { r.Stats.Duplicates = make([]modstats.Duplicate, 1) }, []string{"no module in the list of duplicates"}},
		"another module": {func(r *Run) { r.Modules[2] = "nvme" }, []string{"the same modules as with udevd"}},
		"slow":           {func(r *Run) { r.Seconds = 3.2 }, []string{"time at most 1.15 times that of the oracle"}},
		"greedy":         {func(r *Run) { r.Use.Free = 7700e6 }, []string{"free memory within 2 % of the oracle's"}},
		"without stats":  {func(r *Run) { r.Stats = nil }, nil},
	} {
		f, hapax := sample()
		tt.change(hapax)
		if d := cmp.Diff(tt.want, broken(f, hapax)); d != "" {
			t.Errorf("%s: broken (-want +got):\n%s", name, d)
		}
	}
	f, hapax := sample()
	control := &Run{Kernel: "nomerge", CPUs: 64, Contender: guest.Control, Modules: hapax.Modules, Trace: hapax.Trace}
	if len(broken(f, control)) != 1 {
		t.Error("a control whose modules are inserted once breaks no promise")
	}
	control.Trace.Finit.Total++
	if d := cmp.Diff([]string(nil), broken(f, control)); d != "" {
		t.Errorf("control with a call too many: broken (-want +got):\n%s", d)
	}
	if f, hapax := sample(); len((&File{Runs: []*Run{hapax}}).Verdicts(hapax)) != 5 || len(f.Verdicts(hapax)) != 8 {
		t.Error("a run without peers is judged by its counts alone, another one by three things more")
	}
}

func TestJudge(t *testing.T) {
	f, hapax := sample()
	hapax.Seconds, hapax.Stats.Wasted = 5, 7
	var b strings.Builder
	n, err := f.Judge(&b)
	if err != nil || n != 1 {
		t.Errorf("Judge = %d, %v, want one count broken: a time is none", n, err)
	}
	for _, want := range []string{"BROKEN  no memory wasted: 7 bytes", "missed  time at most 1.15", "hapax on nomerge, 64 vCPUs"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("Judge wrote no %q:\n%s", want, b.String())
		}
	}
}

func TestTables(t *testing.T) {
	f, _ := sample()
	f.Put(&Run{Kernel: "6.1-cloud", CPUs: 8, Contender: guest.Hapax, Seconds: 1})
	f.Put(&Run{Kernel: "nomerge", CPUs: 8, Contender: guest.Udevd, Seconds: 1})
	var table, markdown, duplicates strings.Builder
	for _, err := range []error{f.Table(&table), f.Markdown(&markdown), f.Duplicates(&duplicates)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var rows []string
	for line := range strings.Lines(table.String()) {
		rows = append(rows, strings.Join(strings.Fields(line)[:3], " "))
	}
	want := []string{"kernel vCPUs contender", "nomerge 8 udevd", "nomerge 64 hapax", "nomerge 64 oracle", "nomerge 64 udevd", "6.1-cloud 8 hapax"}
	if d := cmp.Diff(want, rows); d != "" {
		t.Errorf("rows (-want +got):\n%s", d)
	}
	for _, want := range []string{
		"| nomerge | 64 | udevd | 19 | 4 | 9 | 6 | 9 | 228.0 | 9.30 | 3.44 | 900 | 2000 | host | 6700 |",
		"| 6.1-cloud | 8 | hapax | 0 | 0 | 0 | 0 | - | - | 1.00 | - | 0 | 0 | host | 0 |",
	} {
		if !strings.Contains(markdown.String(), want) {
			t.Errorf("no line %q in\n%s", want, markdown.String())
		}
	}
	const list = "\nfailed loads of duplicates, nomerge, 64 vCPUs\n" +
		"module  hapax  oracle  udevd\nkvm     0      0       7 Becoming & Load\nvirtio  0      0       2 Load\n"
	if duplicates.String() != list {
		t.Errorf("Duplicates wrote %q, want %q", duplicates.String(), list)
	}
}

func TestPut(t *testing.T) {
	f, hapax := sample()
	if got := f.Order("nomerge", 64); cmp.Diff(hapax.Modules, got) != "" {
		t.Errorf("Order = %v, want that of hapax", got)
	}
	again := &Run{Kernel: "nomerge", CPUs: 64, Contender: guest.Hapax, Seconds: 1}
	f.Put(again)
	if len(f.Runs) != 3 || f.peer(again, guest.Hapax) != again {
		t.Errorf("%d runs, want the new one in the place of the old", len(f.Runs))
	}
	if got := f.Order("stats", 64); got != nil {
		t.Errorf("Order without a run = %v", got)
	}
}

func TestFile(t *testing.T) {
	f, _ := sample()
	f.Command = "make storm"
	path := filepath.Join(t.TempDir(), "new/storm.json")
	if err := f.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(f, got); d != "" {
		t.Errorf("written and read (-want +got):\n%s", d)
	}
	if _, err := Read(filepath.Dir(path)); err == nil {
		t.Error("a folder was read as a file")
	}
}

func TestAccount(t *testing.T) {
	r := new(Run)
	if err := r.Account(""); err != nil || r.Stats != nil {
		t.Errorf("Account of nothing: %v, %v", r.Stats, err)
	}
	if err := r.Account("nonsense"); err == nil {
		t.Error("Account of nonsense gives no error")
	}
}

// A time that counted instructions and one of the host's clock are not compared.
func TestTwoClocks(t *testing.T) {
	t.Parallel()
	hapax := &Run{Kernel: "k", CPUs: 8, Contender: guest.Hapax, Seconds: 3, Counted: true}
	oracle := &Run{Kernel: "k", CPUs: 8, Contender: guest.Oracle, Seconds: 2, Counted: true}
	f := &File{Runs: []*Run{hapax, oracle}}
	if ratio, ok := f.ofOracle(hapax); !ok || ratio != 1.5 {
		t.Errorf("ratio = %v, %v, want 1.5", ratio, ok)
	}
	oracle.Counted = false
	if ratio, ok := f.ofOracle(hapax); ok {
		t.Errorf("ratio of two clocks = %v", ratio)
	}
	for _, v := range f.Verdicts(hapax) {
		if strings.Contains(v.Promise, "time at most") {
			t.Errorf("judged: %+v", v)
		}
	}
}
