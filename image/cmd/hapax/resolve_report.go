package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// maxReport bounds what is read of a boot report. That of a large machine has a few MB.
const maxReport = 64 << 20

// A bootReport is what resolve needs of the boot.json of the engine.
type bootReport struct {
	Kernel   string     `json:"kernel"` // uname -r
	Unserved []unserved `json:"unserved"`
}

// An unserved is a device that found no module in the image. In a report, the modules are those that the image knew it
// lacks; here, those of a tree.
type unserved struct {
	Device  string   `json:"device"` // below /sys
	Alias   string   `json:"alias"`
	Modules []string `json:"modules"`
}

// An explanation is what resolve --report --json prints.
type explanation struct {
	Report  string     `json:"report"`
	Kernel  string     `json:"kernel"`
	Dir     string     `json:"modules_dir"`
	Devices []unserved `json:"devices"`
}

// readReport reads a boot.json.
func readReport(file string) (bootReport, error) {
	f, err := os.Open(file)
	if err != nil {
		return bootReport{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxReport+1))
	if err != nil {
		return bootReport{}, err
	}
	report, err := parseReport(data)
	if err != nil {
		return bootReport{}, fmt.Errorf("%s: no boot report: %w", file, err)
	}
	return report, nil
}

// parseReport reads the text of a boot.json. The kernel of a report is good as the name of a folder.
func parseReport(data []byte) (report bootReport, err error) {
	if len(data) > maxReport {
		return report, fmt.Errorf("more than %d bytes", maxReport)
	}
	if err := json.Unmarshal(data, &report); err != nil {
		return report, err
	}
	if !filepath.IsLocal(report.Kernel) || strings.ContainsRune(report.Kernel, '/') {
		return report, fmt.Errorf("its kernel is %q", report.Kernel)
	}
	return report, nil
}

// explain shows which modules of the tree the devices of a report would take.
func (r *resolveFlags) explain(cmd *cobra.Command) error {
	report, err := readReport(r.report)
	if err != nil {
		return err
	}
	c, err := r.open(report.Kernel, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer c.index.Close()
	e := explanation{Report: r.report, Kernel: report.Kernel, Dir: c.index.Dir(), Devices: []unserved{}}
	for _, u := range report.Unserved {
		// What the image knew may be about another tree.
		u.Modules = append([]string{}, c.view.Lookup(u.Alias).Names...)
		e.Devices = append(e.Devices, u)
	}
	if err := c.index.Err(); err != nil {
		return err
	}
	if r.asJSON {
		return printJSON(cmd.OutOrStdout(), e)
	}
	return e.print(cmd.OutOrStdout())
}

// print writes a table of the devices that a module would serve, and how many others there are.
func (e explanation) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rows := 0
	for _, u := range e.Devices {
		if len(u.Modules) == 0 {
			continue
		}
		if rows == 0 {
			fmt.Fprintln(table, "MODULES\tDEVICE\tALIAS")
		}
		rows++
		fmt.Fprintf(table, "%s\t%s\t%s\n", strings.Join(u.Modules, ","), printable(u.Device), printable(u.Alias))
	}
	err := table.Flush() // has the errors of what was written to it
	_, errLast := fmt.Fprintf(w, "%d of %d devices without a module in the image would have one in %s\n",
		rows, len(e.Devices), e.Dir)
	return errors.Join(err, errLast)
}
