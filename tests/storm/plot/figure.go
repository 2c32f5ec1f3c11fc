package main

import (
	"cmp"
	"slices"
)

// A run is the part of storm.json that is drawn.
type run struct {
	Kernel    string  `json:"kernel"`
	CPUs      int     `json:"cpus"`
	Contender string  `json:"contender"`
	Seconds   float64 `json:"seconds"`
	Trace     struct {
		Finit, Init struct {
			Total int `json:"total"`
		}
	} `json:"trace"`
	Stats *struct {
		Kread      int   `json:"failed_kread"`
		Decompress int   `json:"failed_decompress"`
		Becoming   int   `json:"failed_becoming"`
		Load       int   `json:"failed_load"`
		Wasted     int64 `json:"wasted"`
	} `json:"stats"`
	Use struct {
		Before int64 `json:"before"`
		Low    int64 `json:"low"`
	} `json:"use"`
}

// A quantity is what the y axis shows. Its value is missing (ok is false) for kernels that do not count it.
type quantity struct {
	name, label string
	value       func(r run) (y float64, ok bool)
}

func quantities() []quantity {
	return []quantity{
		{"calls", "system calls that insert modules", func(r run) (float64, bool) {
			return float64(r.Trace.Finit.Total + r.Trace.Init.Total), true
		}},
		{"failed", "loads that failed in the kernel", func(r run) (float64, bool) {
			if r.Stats == nil {
				return 0, false
			}
			return float64(r.Stats.Kread + r.Stats.Decompress + r.Stats.Becoming + r.Stats.Load), true
		}},
		{"wasted", "kernel memory wasted on them, MB", func(r run) (float64, bool) {
			if r.Stats == nil {
				return 0, false
			}
			return float64(r.Stats.Wasted) / 1e6, true
		}},
		{"memory", "memory taken at the peak, MB", func(r run) (float64, bool) {
			return float64(r.Use.Before-r.Use.Low) / 1e6, true
		}},
		{"time", "seconds to settled", func(r run) (float64, bool) { return r.Seconds, true }},
	}
}

// A point is one run.
type point struct{ x, y float64 }

// A line is one contender; its points are sorted by x.
type line struct {
	contender string
	points    []point
}

// A figure is one quantity on one kernel.
type figure struct {
	kernel string
	quantity
	lines []line
	xs    []int // the numbers of processors, sorted
}

// contenders are in the order of their colours, which are the same in all figures.
func contenders() []string { return []string{"hapax", "oracle", "udevd", "mdev", "modprobe"} }

// figures returns the figures that the runs have values for, by kernel and quantity.
func figures(runs []run) []figure {
	var kernels []string
	for _, r := range runs {
		if !slices.Contains(kernels, r.Kernel) {
			kernels = append(kernels, r.Kernel)
		}
	}
	var all []figure
	for _, kernel := range kernels {
		for _, q := range quantities() {
			f := figure{kernel: kernel, quantity: q}
			f.fill(runs)
			if len(f.lines) > 0 {
				all = append(all, f)
			}
		}
	}
	return all
}

// fill makes the lines of a figure.
func (f *figure) fill(runs []run) {
	for _, contender := range contenders() {
		l := line{contender: contender}
		for _, r := range runs {
			if r.Kernel != f.kernel || r.Contender != contender {
				continue
			}
			if y, ok := f.value(r); ok {
				l.points = append(l.points, point{float64(r.CPUs), y})
				f.xs = append(f.xs, r.CPUs)
			}
		}
		slices.SortFunc(l.points, func(a, b point) int { return cmp.Compare(a.x, b.x) })
		if len(l.points) > 0 {
			f.lines = append(f.lines, l)
		}
	}
	slices.Sort(f.xs)
	f.xs = slices.Compact(f.xs)
}
