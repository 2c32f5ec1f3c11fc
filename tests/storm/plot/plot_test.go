package main

import (
	"bytes"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const runs = `{"host": "a test", "runs": [
 {"kernel": "stats", "cpus": 64, "contender": "udevd", "seconds": 9.3, "trace": {"finit": {"total": 600}, "init": {"total": 11}},
  "stats": {"failed_becoming": 500, "failed_load": 69, "wasted": 228000000}, "use": {"before": 800000000, "low": 100000000}},
 {"kernel": "stats", "cpus": 8, "contender": "udevd", "seconds": 3.3, "trace": {"finit": {"total": 140}}, "stats": {"failed_load": 98}},
 {"kernel": "stats", "cpus": 8, "contender": "hapax", "seconds": 1, "trace": {"finit": {"total": 42}}, "stats": {}},
 {"kernel": "6.1-cloud", "cpus": 8, "contender": "hapax", "seconds": 2, "trace": {"finit": {"total": 26}}},
 {"kernel": "6.1-cloud", "cpus": 8, "contender": "nobody", "seconds": 2}
]}`

func TestDraw(t *testing.T) {
	dir := t.TempDir()
	input := filepath.Join(dir, "storm.json")
	if err := os.WriteFile(input, []byte(runs), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := drawAll(input, dir); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "storm-*"))
	if err != nil || len(files) != 2*(5+3) {
		t.Errorf("%d files, %v, want five figures of one kernel and three of the other, twice: %v", len(files), err, files)
	}
	svg, err := os.ReadFile(filepath.Join(dir, "storm-stats-calls.svg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"hapax", "udevd", ">64<", "kernel stats", "a test"} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("the figure does not show %q", want)
		}
	}
	if strings.Contains(string(svg), "mdev") {
		t.Error("the figure names a contender that has no run")
	}
	picture, err := os.ReadFile(filepath.Join(dir, "storm-stats-calls.png"))
	if err != nil {
		t.Fatal(err)
	}
	if img, err := png.Decode(bytes.NewReader(picture)); err != nil || img.Bounds().Dx() < 300 {
		t.Errorf("picture: %v", err)
	}
}

func TestFigures(t *testing.T) {
	all := figures([]run{
		{Kernel: "a", CPUs: 255, Contender: "udevd", Seconds: 3}, {Kernel: "a", CPUs: 8, Contender: "udevd", Seconds: 1},
		{Kernel: "a", CPUs: 64, Contender: "hapax", Seconds: 2},
	})
	time := all[len(all)-1]
	if time.name != "time" || len(time.lines) != 2 || time.lines[0].contender != "hapax" {
		t.Fatalf("last figure: %+v", time)
	}
	udevd := time.lines[1].points
	if len(udevd) != 2 || udevd[0] != (point{8, 1}) || udevd[1] != (point{255, 3}) {
		t.Errorf("udevd: %v, want the points sorted", udevd)
	}
	if len(time.xs) != 3 || time.xs[0] != 8 || time.xs[2] != 255 {
		t.Errorf("numbers of processors: %v", time.xs)
	}
}

func TestDrawErrors(t *testing.T) {
	dir := t.TempDir()
	if err := drawAll(filepath.Join(dir, "absent"), dir); err == nil {
		t.Error("no error for a file that is not there")
	}
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := drawAll(bad, dir); err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("drawAll of half a file = %v, want an error that names it", err)
	}
}
