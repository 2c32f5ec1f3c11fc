package bench

import (
	"slices"
	"strings"
	"testing"

	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/need"
	"hapax/tests/storm/report"
)

func TestMemory(t *testing.T) {
	for cpus, want := range map[int]int{1: 4096, 8: 4096, 64: 8192, 255: 16384} {
		if got := MemoryMiB(cpus); got != want {
			t.Errorf("MemoryMiB(%d) = %d, want %d", cpus, got, want)
		}
	}
}

// All contenders get the same machine but for the argument that names them.
func TestMachine(t *testing.T) {
	k := Kernel{Name: "k", Kernel: debian.Kernel{Vmlinuz: "vmlinuz"}, USB: true}
	b := &Bench{Count: true}
	var first []string
	for _, contender := range []string{guest.Hapax, guest.Udevd, guest.Oracle} {
		args, err := b.machine(Case{Kernel: k, CPUs: 64, Contender: contender}, "image").Args()
		if err != nil {
			t.Fatal(err)
		}
		for i, arg := range args {
			args[i] = strings.ReplaceAll(arg, guest.StormRole+contender, guest.StormRole+"X")
		}
		if first == nil {
			first = args
		}
		if !slices.Equal(args, first) {
			t.Errorf("%s: %q, want %q", contender, args, first)
		}
	}
	for _, want := range []string{"tcg,thread=single", "8192M", "qemu-xhci", "shift=0,sleep=on"} {
		if !slices.Contains(first, want) {
			t.Errorf("no argument %q in %q", want, first)
		}
	}
	control := b.machine(Case{Kernel: k, Contender: guest.Control}, "image")
	if !strings.Contains(control.Append, guest.StormRole+guest.Hapax+" ") {
		t.Errorf("control: %+v", control)
	}
}

// TestStorm is the storm in small: hapax beside systemd-udevd on the stock kernel with 8 processors. Every count that is
// promised of hapax is kept, and still is after 100 more processors were announced. udevd shows that it need not be, and so
// does the negative control, which is hapax without its single flight.
func TestStorm(t *testing.T) {
	need.Long(t)
	l, err := lab.Open(t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	spec := lab.Kernels()[0]
	k, err := l.Kernel(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	b := &Bench{Lab: l, Args: "quiet", Logs: l.Logs()}
	file := new(report.File)
	runs := make(map[string]*report.Run)
	for _, contender := range []string{guest.Hapax, guest.Udevd, guest.Control} {
		c := Case{Kernel: Kernel{Name: spec.Name, Kernel: k, USB: spec.USB}, CPUs: 8, Contender: contender}
		if contender == guest.Hapax {
			c.Pokes = 100
		}
		if runs[contender], err = b.Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		file.Put(runs[contender])
	}
	for _, v := range file.Verdicts(runs[guest.Hapax]) {
		if !v.Kept && v.Counted {
			t.Errorf("%s: %s", v.Promise, v.Found)
		}
	}
	for _, contender := range []string{guest.Udevd, guest.Control} {
		if r := runs[contender]; r.Duplicates() == 0 {
			t.Errorf("%s made no call for a module that is there or on its way: %+v", contender, r.Trace)
		}
	}
	var table strings.Builder
	if err := file.Table(&table); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + table.String())
}
