// Command storm shows what becomes of module loading when a machine has many processors: hapax beside systemd-udevd, busybox
// mdev, a plain modprobe, and an oracle that knows what is needed. It boots one QEMU guest for each row of its table.
//
//	go run ./tests/storm [--cpus 8,64,255] [--kernels stats,nomerge,6.1-cloud,6.12-cloud] [--contenders hapax,udevd,...]
//
// It writes build/storm/storm.json, which later runs add to, with the table and the plots beside it, and prints the table and what was
// promised of hapax. Exit status 1 means that something could not be run or that a count is not what was promised.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/debian"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/lab"
	"hapax/tests/storm/bench"
	"hapax/tests/storm/report"
	"hapax/tests/storm/statkernel"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &storm{begun: time.Now()}
	if err := s.parse(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		os.Exit(2)
	}
	if err := s.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		os.Exit(1)
	}
}

// A storm is one call of the command.
type storm struct {
	begun      time.Time
	cpus       []int
	kernels    []string
	contenders []string
	hapax      string
	accel      string
	args       string
	out        string
	pokes      int
	hotplugs   int
	jobs       int
	fresh      bool
	count      bool
	buildOnly  bool
	noPlots    bool
}

// parse reads the flags.
func (s *storm) parse(args []string) error {
	f := flag.NewFlagSet("storm", flag.ContinueOnError)
	cpus := f.String("cpus", "8,64,255", "numbers of processors")
	kernels := f.String("kernels", "nomerge,stats,6.1-cloud,6.12-cloud", "stats, nomerge, or the name of one of Debian's kernels")
	contenders := f.String("contenders", "hapax,udevd,mdev,modprobe,oracle", "in the order in which they run; the oracle needs one before it; control is hapax without its single flight")
	f.StringVar(&s.hapax, "hapax", "", "host command that builds hapax's image; default that of this tree")
	f.StringVar(&s.accel, "accel", "auto", "auto, kvm or tcg")
	f.StringVar(&s.args, "append", "", "more for the kernel command line, such as hapax.workers=4")
	f.StringVar(&s.out, "out", "", "folder for storm.json and the plots; default build/storm")
	f.IntVar(&s.pokes, "pokes", 0, "under hapax: times that an add event of a processor is asked of the kernel once it has settled")
	f.IntVar(&s.hotplugs, "hotplugs", 0, "under hapax: devices that are plugged in and out after that")
	f.IntVar(&s.jobs, "jobs", runtime.NumCPU(), "compilers at a time for the statistics kernel")
	f.BoolVar(&s.count, "icount", false, "let the guests' clocks count instructions, 1 ns for each, so that a busy host does not matter; tcg only")
	f.BoolVar(&s.fresh, "fresh", false, "forget the runs that storm.json has")
	f.BoolVar(&s.buildOnly, "build-only", false, "build the kernels and stop")
	f.BoolVar(&s.noPlots, "no-plots", false, "leave the plots out")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("%s: all arguments are options", f.Arg(0))
	}
	s.kernels, s.contenders = strings.Split(*kernels, ","), strings.Split(*contenders, ",")
	for word := range strings.SplitSeq(*cpus, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > 255 {
			return fmt.Errorf("--cpus %s: want numbers from 1 to 255", *cpus)
		}
		s.cpus = append(s.cpus, n)
	}
	return nil
}

func (s *storm) logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "storm: %7.1f s  "+format+"\n", append([]any{time.Since(s.begun).Seconds()}, args...)...)
}

// run does the whole work.
func (s *storm) run(ctx context.Context) error {
	l, err := lab.Open(s.logf)
	if err != nil {
		return err
	}
	if s.out == "" {
		s.out = filepath.Join(l.Build, "storm")
	}
	kernels, err := s.openKernels(ctx, l)
	if err != nil || s.buildOnly {
		return err
	}
	accel, reason, err := qemu.ProbeAccel(ctx, s.accel)
	if err != nil {
		return err
	}
	s.logf("guests run under %s (%s)", accel, reason)
	file, err := s.open(accel)
	if err != nil {
		return err
	}
	b := &bench.Bench{Lab: l, Hapax: s.hapax, Accel: accel, Count: s.count, Args: s.args, Logs: l.Logs()}
	for _, cpus := range s.cpus {
		for _, k := range kernels {
			if err := s.compare(ctx, b, file, k, cpus); err != nil {
				return err
			}
		}
	}
	if err := s.plot(ctx, l); err != nil {
		return err
	}
	return s.show(file)
}

// openKernels fetches or builds the kernels.
func (s *storm) openKernels(ctx context.Context, l *lab.Lab) ([]bench.Kernel, error) {
	known := make(map[string]lab.KernelSpec)
	for _, spec := range lab.Kernels() {
		known[spec.Name] = spec
	}
	var built map[string]debian.Kernel
	var all []bench.Kernel
	for _, name := range s.kernels {
		spec, ok := known[name]
		switch {
		case ok:
			k, err := l.Kernel(ctx, spec)
			if err != nil {
				return nil, err
			}
			all = append(all, bench.Kernel{Name: name, Kernel: k, USB: spec.USB})
		case name == statkernel.Stats || name == statkernel.NoMerge:
			if built == nil {
				source, err := l.Package(ctx, statkernel.SourcePackage)
				if err != nil {
					return nil, err
				}
				b := &statkernel.Builder{Dir: filepath.Join(l.Build, "storm"), Jobs: s.jobs, Logf: s.logf}
				if built, err = b.Kernels(ctx, source); err != nil {
					return nil, err
				}
			}
			all = append(all, bench.Kernel{Name: name, Kernel: built[name], USB: true})
		default:
			return nil, fmt.Errorf("no kernel %s: there are stats, nomerge, 6.1-cloud, 6.12-cloud and 6.1", name)
		}
	}
	return all, nil
}

// jsonFile is what the plots are made of.
func (s *storm) jsonFile() string { return filepath.Join(s.out, "storm.json") }

// open returns the file that the runs go to.
func (s *storm) open(accel qemu.Accel) (*report.File, error) {
	file, err := report.Read(s.jsonFile())
	if s.fresh || errors.Is(err, fs.ErrNotExist) {
		file, err = new(report.File), nil
	}
	if err != nil {
		return nil, err
	}
	file.Command = `make storm STORM="` + strings.Join(os.Args[1:], " ") + `"`
	file.Host = fmt.Sprintf("QEMU, %s, %d host processors", accel, runtime.NumCPU())
	return file, nil
}

// compare runs all contenders on one machine. The oracle gets the order in which the contender before it inserted the
// modules: its own first, that of an earlier call else.
func (s *storm) compare(ctx context.Context, b *bench.Bench, file *report.File, k bench.Kernel, cpus int) error {
	for _, contender := range s.contenders {
		c := bench.Case{Kernel: k, CPUs: cpus, Contender: contender, Pokes: s.pokes, HotPlugs: s.hotplugs}
		if contender == guest.Oracle {
			if c.Order = file.Order(k.Name, cpus); c.Order == nil {
				return fmt.Errorf("the oracle on %s with %d vCPUs needs a run of hapax or udevd before it", k.Name, cpus)
			}
		}
		r, err := b.Run(ctx, c)
		if err != nil {
			return err
		}
		file.Put(r)
		if err := file.Write(s.jsonFile()); err != nil {
			return err
		}
		s.logf("%-10s %3d vCPUs  %-8s  %4d calls for %2d modules, %6.2f s, %4d processes, peak %5.0f MB",
			k.Name, cpus, contender, r.Calls(), len(r.Modules), r.Seconds, r.Use.Processes, float64(r.Peak())/1e6)
	}
	return nil
}

// plot has the module beside this one draw the plots.
func (s *storm) plot(ctx context.Context, l *lab.Lab) error {
	if s.noPlots {
		return nil
	}
	input, err := filepath.Abs(s.jsonFile())
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "run", ".", input, filepath.Dir(input))
	cmd.Dir = filepath.Join(l.Root, "tests/storm/plot")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("plots: %w: %s", err, out)
	}
	return nil
}

// show prints the tables and the verdicts, and writes the first table for documents.
func (s *storm) show(file *report.File) error {
	var document bytes.Buffer
	for _, write := range []func() error{
		func() error { return file.Table(os.Stdout) },
		func() error { return file.Duplicates(os.Stdout) },
		func() error { return file.Markdown(&document) },
		func() error { return os.WriteFile(filepath.Join(s.out, "storm.md"), document.Bytes(), 0o644) },
	} {
		if err := write(); err != nil {
			return err
		}
	}
	broken, err := file.Judge(os.Stdout)
	if err == nil && broken > 0 {
		err = fmt.Errorf("%d promises are broken", broken)
	}
	fmt.Printf("\nall figures: %s\n", s.jsonFile())
	return err
}
