package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"hapax/tests/internal/guest"
)

// columns are those of the table, in order.
var columns = []struct {
	head string
	cell func(f *File, r *Run) string
}{
	{"kernel", func(_ *File, r *Run) string { return r.Kernel }},
	{"vCPUs", func(_ *File, r *Run) string { return strconv.Itoa(r.CPUs) }},
	{"contender", func(_ *File, r *Run) string { return r.Contender }},
	{"calls", func(_ *File, r *Run) string { return strconv.Itoa(r.Calls()) }},
	{"modules", func(_ *File, r *Run) string { return strconv.Itoa(len(r.Modules)) }},
	{"EEXIST, EBUSY", func(_ *File, r *Run) string { return strconv.Itoa(r.Duplicates()) }},
	{"refused", func(_ *File, r *Run) string { return strconv.Itoa(r.Refusals()) }},
	{"failed in the kernel", func(_ *File, r *Run) string {
		return ifStats(r, func() string { return strconv.Itoa(r.Stats.Failed()) })
	}},
	{"wasted MB", func(_ *File, r *Run) string {
		return ifStats(r, func() string { return fmt.Sprintf("%.1f", mb(r.Stats.Wasted)) })
	}},
	{"s to settled", func(_ *File, r *Run) string { return fmt.Sprintf("%.2f", r.Seconds) }},
	{"x oracle", func(f *File, r *Run) string {
		if ratio, ok := f.ofOracle(r); ok {
			return fmt.Sprintf("%.2f", ratio)
		}
		return "-"
	}},
	{"processes", func(_ *File, r *Run) string { return strconv.Itoa(r.Use.Processes) }},
	{"peak MB", func(_ *File, r *Run) string { return fmt.Sprintf("%.0f", mb(r.Peak())) }},
	{"clock", func(_ *File, r *Run) string {
		if r.Counted {
			return "instructions"
		}
		return "host"
	}},
	{"free MB", func(_ *File, r *Run) string { return fmt.Sprintf("%.0f", mb(r.Use.Free)) }},
}

// ifStats is "-" for a kernel that keeps no account.
func ifStats(r *Run, cell func() string) string {
	if r.Stats == nil {
		return "-"
	}
	return cell()
}

// sorted returns the runs by kernel, in the order in which kernels came first, processors and contender.
func (f *File) sorted() []*Run {
	var kernels []string
	for _, r := range f.Runs {
		if !slices.Contains(kernels, r.Kernel) {
			kernels = append(kernels, r.Kernel)
		}
	}
	contenders := []string{guest.Hapax, guest.Oracle, guest.Udevd, guest.Mdev, guest.Modprobe, guest.Control}
	runs := slices.Clone(f.Runs)
	slices.SortStableFunc(runs, func(a, b *Run) int {
		if n := slices.Index(kernels, a.Kernel) - slices.Index(kernels, b.Kernel); n != 0 {
			return n
		}
		if a.CPUs != b.CPUs {
			return a.CPUs - b.CPUs
		}
		return slices.Index(contenders, a.Contender) - slices.Index(contenders, b.Contender)
	})
	return runs
}

// Table writes one line for each run, laid out for a terminal.
func (f *File) Table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, c := range columns {
		fmt.Fprintf(t, "%s\t", c.head)
	}
	fmt.Fprintln(t)
	for _, r := range f.sorted() {
		for _, c := range columns {
			fmt.Fprintf(t, "%s\t", c.cell(f, r))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// Markdown writes the same table for a document.
func (f *File) Markdown(w io.Writer) error {
	var b strings.Builder
	for _, c := range columns {
		b.WriteString("| " + c.head + " ")
	}
	b.WriteString("|\n" + strings.Repeat("|---", len(columns)) + "|\n")
	for _, r := range f.sorted() {
		for _, c := range columns {
			b.WriteString("| " + c.cell(f, r) + " ")
		}
		b.WriteString("|\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Duplicates writes the kernel's list of duplicates as a table of modules by contender, for each kernel and number of
// processors for which somebody has one.
func (f *File) Duplicates(w io.Writer) error {
	seen := make(map[string]bool)
	for _, r := range f.sorted() {
		key := fmt.Sprintf("%s, %d vCPUs", r.Kernel, r.CPUs)
		if r.Stats == nil || seen[key] {
			continue
		}
		seen[key] = true
		if err := f.duplicates(w, key, r); err != nil {
			return err
		}
	}
	return nil
}

// duplicates writes the table for the machine of a run.
func (f *File) duplicates(w io.Writer, title string, of *Run) error {
	var runs []*Run
	times := make(map[string][]string) // by module, one cell for each run
	for _, r := range f.sorted() {
		if r.Kernel == of.Kernel && r.CPUs == of.CPUs && r.Stats != nil {
			runs = append(runs, r)
		}
	}
	total := make(map[string]int)
	for i, r := range runs {
		for _, d := range r.Stats.Duplicates {
			if times[d.Module] == nil {
				times[d.Module] = slices.Repeat([]string{"0"}, len(runs))
			}
			times[d.Module][i] = fmt.Sprintf("%d %s", d.Times, d.Reason)
			total[d.Module] += d.Times
		}
	}
	if len(times) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\nfailed loads of duplicates, %s\n", title)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "module")
	for _, r := range runs {
		fmt.Fprint(t, "\t", r.Contender)
	}
	fmt.Fprintln(t)
	for _, m := range byTotal(total) {
		fmt.Fprintln(t, m+"\t"+strings.Join(times[m], "\t"))
	}
	return t.Flush()
}

// byTotal returns the names, those with the highest numbers first.
func byTotal(total map[string]int) []string {
	names := make([]string, 0, len(total))
	for name := range total {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if total[a] != total[b] {
			return total[b] - total[a]
		}
		return strings.Compare(a, b)
	})
	return names
}

// Judge writes the verdicts on all runs of hapax and of its negative control, and returns how many counted promises were broken.
func (f *File) Judge(w io.Writer) (broken int, err error) {
	for _, r := range f.sorted() {
		if r.Contender != guest.Hapax && r.Contender != guest.Control {
			continue
		}
		fmt.Fprintf(w, "\n%s on %s, %d vCPUs\n", r.Contender, r.Kernel, r.CPUs)
		for _, v := range f.Verdicts(r) {
			mark := "kept  "
			switch {
			case !v.Kept && v.Counted:
				mark = "BROKEN"
				broken++
			case !v.Kept:
				mark = "missed"
			}
			if _, err := fmt.Fprintf(w, "  %s  %s: %s\n", mark, v.Promise, v.Found); err != nil {
				return broken, err
			}
		}
	}
	return broken, nil
}
