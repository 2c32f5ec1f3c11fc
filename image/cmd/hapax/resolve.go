package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"hapax/modload/modindex"
)

// resolveFlags are the flags of `hapax resolve`.
type resolveFlags struct {
	depends, asJSON, noConfig bool
	modulesDir, report        string
	configDirs                []string
}

func newResolve() *cobra.Command {
	r := &resolveFlags{}
	cmd := &cobra.Command{
		Use:   "resolve [flags] ALIAS|MODULE...",
		Short: "Show the modules that an alias or a name stands for",
		Long: `Show the modules that each ALIAS or MODULE stands for, one a line, as "modprobe -R" does; with --depends
what would be done to load them, as "modprobe --show-depends" does:

  insmod PATH OPTIONS      builtin NAME      install COMMAND OPTIONS

A line that modprobe would repeat for one argument is there once, all softdep lines of a module count, and a module
that a "deny" line or module_blacklist= keeps out is an error. The argument "-" stands for the lines of stdin.
What is unknown is named on stderr, the rest is shown, and the exit code is 1.

With --report, show for the devices that found no module in a boot of hapax which of the tree would serve them.
"hapax build --modules" puts those into the image.`,
		Example: `  hapax resolve --depends btrfs
  cat /sys/bus/pci/devices/*/modalias | hapax resolve -
  hapax resolve --report /run/hapax/boot.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cmd.ValidateFlagGroups(); err != nil { // cobra itself looks at groups too late
				return err
			}
			if r.report == "" {
				return cobra.MinimumNArgs(1)(cmd, args)
			}
			if len(args) > 0 {
				return errors.New("--report has the aliases: give no others")
			}
			return nil
		},
		ValidArgsFunction: r.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.report != "" {
				return r.explain(cmd)
			}
			return r.resolve(cmd, args)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&r.depends, "depends", false, "show what is done to load the modules, dependencies first")
	flags.StringVar(&r.modulesDir, "modules-dir", "",
		"look into `DIR`, a lib/modules/RELEASE folder (default the running kernel's, with --report that of the kernel there)")
	flags.StringArrayVar(&r.configDirs, "config-dir", nil,
		"read modprobe.d(5) files from `DIR` instead of the system's folders (repeatable, earlier ones win)")
	flags.BoolVar(&r.noConfig, "no-config", false, "read neither modprobe.d(5) files nor the kernel command line")
	flags.StringVar(&r.report, "report", "", "explain the devices without a module in `FILE`, the boot.json of a boot")
	flags.BoolVar(&r.asJSON, "json", false, "print one JSON object")
	cmd.MarkFlagsMutuallyExclusive("report", "depends")
	cmd.MarkFlagsMutuallyExclusive("config-dir", "no-config")
	// The only error is a flag that the lines above did not add.
	_ = errors.Join(cmd.MarkFlagDirname("modules-dir"), cmd.MarkFlagDirname("config-dir"))
	return cmd
}

// open returns the tree to look into, that of the release if no flag names another one. An empty release stands for
// the running kernel. Lines of the configuration that are skipped are warnings on stderr.
func (r *resolveFlags) open(release string, stderr io.Writer) (*catalog, error) {
	dir := r.modulesDir
	if dir == "" {
		if release == "" {
			running, err := kernelRelease()
			if err != nil {
				return nil, err
			}
			release = running
		}
		dir = filepath.Join("/lib/modules", release)
	}
	dir, err := filepath.Abs(dir) // for the paths of insmod
	if err != nil {
		return nil, err
	}
	config, err := r.config(stderr)
	if err != nil {
		return nil, err
	}
	index, err := modindex.Open(dir)
	if err != nil {
		return nil, err
	}
	return &catalog{index: index, view: index.With(config), config: config}, nil
}

// config reads what modprobe would read.
func (r *resolveFlags) config(stderr io.Writer) (*modindex.Config, error) {
	if r.noConfig {
		return nil, nil
	}
	dirs := modindex.ConfigDirs("/")
	if len(r.configDirs) > 0 {
		dirs = r.configDirs
		for _, dir := range dirs {
			if _, err := os.Stat(dir); err != nil { // for ReadConfig that is no error
				return nil, fmt.Errorf("--config-dir: %w", err)
			}
		}
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, fmt.Errorf("%w: mount /proc or use --no-config", err)
	}
	config, problems := modindex.ReadConfig(dirs, string(cmdline))
	for _, problem := range problems {
		fmt.Fprintf(stderr, "hapax: warning: %s\n", oneLine(problem))
	}
	return config, nil
}

// resolve answers the queries of the command line.
func (r *resolveFlags) resolve(cmd *cobra.Command, args []string) error {
	c, err := r.open("", cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer c.index.Close()
	list := resolved{Dir: c.index.Dir(), Queries: []answer{}}
	out := bufio.NewWriter(cmd.OutOrStdout())
	failed := false
	for query, err := range queries(args, interruptible{cmd.Context(), cmd.InOrStdin()}) {
		if err != nil {
			return errors.Join(out.Flush(), err)
		}
		a, err := c.answer(query, r.depends)
		if err != nil {
			failed = true
			a.Error = oneLine(err)
			fmt.Fprintf(cmd.ErrOrStderr(), "hapax: %s\n", a.Error)
		}
		if r.asJSON {
			list.Queries = append(list.Queries, a)
			continue
		}
		for _, line := range a.lines(r.depends) {
			out.WriteString(line + "\n") // Flush has the error
		}
	}
	if r.asJSON {
		err = printJSON(out, list)
	}
	if err = errors.Join(err, out.Flush(), c.index.Err()); err == nil && failed {
		return &exitError{exitFailed}
	}
	return err
}

// queries yields the arguments, and the lines of stdin in the place of "-". An empty line is no query.
func queries(args []string, stdin io.Reader) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, arg := range args {
			if arg != "-" {
				if !yield(arg, nil) {
					return
				}
				continue
			}
			lines := bufio.NewScanner(stdin)
			for lines.Scan() {
				if line := strings.TrimSpace(lines.Text()); line != "" && !yield(line, nil) {
					return
				}
			}
			if err := lines.Err(); err != nil {
				yield("", fmt.Errorf("stdin: %w", err))
				return
			}
		}
	}
}

// complete returns the names of the tree's modules that begin with what is typed, in the spelling in which it is typed.
func (r *resolveFlags) complete(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	const directive = cobra.ShellCompDirectiveNoFileComp
	c, err := r.open("", io.Discard)
	if err != nil || r.report != "" {
		return nil, directive
	}
	defer c.index.Close()
	var found []cobra.Completion
	prefix := modindex.Normalize(typed)
	for m := range c.index.All() {
		if rest, ok := strings.CutPrefix(m.Name, prefix); ok {
			found = append(found, typed+rest)
		}
	}
	return found, directive
}
