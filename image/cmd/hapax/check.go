package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"hapax/image/inspect"
	"hapax/image/profile"
)

// checkFlags are the flags of `hapax check`.
type checkFlags struct {
	host, asJSON, strict, verbose bool
	profile, sysfs                string
	target                        inspect.Target
}

func newCheck() *cobra.Command {
	c := &checkFlags{}
	cmd := &cobra.Command{
		Use:   "check [flags] IMAGE",
		Short: "Tell whether an image drives a machine",
		Long: `Tell, without booting it, whether an image drives a machine: whether each device finds its module in the image, in the
kernel itself or nowhere, whether what the root lies on is there, whether modules have what they need, firmware included,
whether /init and the shell can start, and whether the kernel is the one that the modules are for, with all the options that
the image takes for granted. The image may be hapax's or another's.

Without --host, --profile or --sysfs, only what holds for every machine is looked at. What the image leaves out is known from
the whole tree of modules (--modules-dir), or from what hapax writes into its images.

Exit codes: 0 nothing keeps the machine from booting, 1 something does or a file cannot be read, 2 wrong usage.`,
		Example: `  hapax check --host /boot/initrd.img-$(uname -r)
  hapax check --profile server.json --shell forbidden image.efi`,
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(cmd.ValidateFlagGroups(), cobra.ExactArgs(1)(cmd, args)) // cobra itself looks at groups too late
		},
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&c.host, "host", false, "check for this machine")
	flags.StringVar(&c.profile, "profile", "", "check for the machine in `FILE`, made by hapax profile record")
	flags.StringVar(&c.sysfs, "sysfs", "", "check for the machine whose /sys is at `DIR`, with its /proc beside it if that is there")
	flags.StringVar(&c.target.ModulesDir, "modules-dir", "",
		"all modules of the kernel are in `DIR`, a lib/modules/RELEASE folder (default /lib/modules/RELEASE, if it is there)")
	flags.StringVar(&c.target.Kernel, "kernel", "", "the kernel is `FILE` (default that in the image, if it has one)")
	flags.StringVar(&c.target.KernelConfig, "kernel-config", "",
		"its configuration is `FILE` (default config-RELEASE in /boot or beside the modules)")
	flags.StringVar(&c.target.FirmwareDir, "firmware-dir", "", "tell of firmware that `DIR` has and the image lacks (default /lib/firmware)")
	addChoice(cmd, &c.target.Shell, "shell", "whether the image may or must hold a shell", inspect.ShellPolicies()...)
	flags.BoolVar(&c.strict, "strict", false, "let warnings fail, too")
	flags.BoolVarP(&c.verbose, "verbose", "v", false, "show notes, too")
	flags.BoolVar(&c.asJSON, "json", false, "print one JSON object, notes included")
	cmd.MarkFlagsMutuallyExclusive("host", "profile", "sysfs")
	// The only error is a flag that the lines above did not add.
	_ = errors.Join(cmd.MarkFlagDirname("sysfs"), cmd.MarkFlagDirname("modules-dir"), cmd.MarkFlagDirname("firmware-dir"))
	return cmd
}

func (c *checkFlags) run(cmd *cobra.Command, image string) error {
	if err := c.machine(); err != nil {
		return err
	}
	source, err := inspect.Open(cmd.Context(), image)
	if err != nil {
		return err
	}
	defer source.Close()
	report, err := inspect.Check(source, c.target)
	if err != nil {
		return err
	}
	if c.asJSON {
		err = printJSON(cmd.OutOrStdout(), report)
	} else {
		err = c.print(cmd.OutOrStdout(), report)
	}
	if err != nil {
		return err
	}
	if worst := report.Worst(); worst == inspect.Error || c.strict && worst == inspect.Warning {
		return &exitError{exitFailed}
	}
	return nil
}

// machine finds out about the machine that the flags name.
func (c *checkFlags) machine() error {
	var p profile.Profile
	var err error
	switch {
	case c.host:
		c.target.Name = "this machine"
		p, err = profile.Record("/")
	case c.profile != "":
		c.target.Name = c.profile
		p, err = profile.Read(c.profile)
	case c.sysfs != "":
		c.target.Name = c.sysfs
		p, err = recordSysfs(c.sysfs)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	c.target.Machine = &p
	return nil
}

// recordSysfs describes the machine whose sysfs is at dir.
func recordSysfs(dir string) (profile.Profile, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return profile.Profile{}, err
	}
	if filepath.Base(dir) == "sys" {
		return profile.Record(filepath.Dir(dir))
	}
	root, err := os.MkdirTemp("", "hapax-sysfs-")
	if err != nil {
		return profile.Profile{}, err
	}
	defer os.RemoveAll(root)
	if err := os.Symlink(dir, filepath.Join(root, "sys")); err != nil {
		return profile.Profile{}, err
	}
	p, err := profile.Record(root)
	if err != nil {
		err = fmt.Errorf("%s has no folder devices: name a copy of /sys", dir)
	}
	return p, err
}

// print writes the report as text: what the image is, what becomes of the machine, the findings, and the answer.
func (c *checkFlags) print(w io.Writer, r *inspect.Report) error {
	out := bufio.NewWriter(w) // Flush has its errors
	maker, release := r.Maker, r.Release
	if maker == "" {
		maker = "unknown"
	}
	if release == "" {
		release = "no kernel"
	}
	fmt.Fprintf(out, "%s: %s by %s, %d modules of %s in %d files, %s with %s\n", r.Image, r.Kind, maker, r.Modules,
		printable(release), r.Files, formatBytes(r.Size), strings.Join(r.Formats, ", "))
	if d := r.Devices; d != nil {
		fmt.Fprintf(out, "%s: %d kinds of devices: %d driven by modules of the image, %d by the kernel itself, %d without a module "+
			"in the image, %d unknown to the kernel\n", r.Machine, d.Total, d.Served, d.Builtin,
			d.Total-d.Served-d.Builtin-d.Barred-len(d.Unknown), len(d.Unknown))
	}
	errs, warnings, notes := 0, 0, 0
	for _, f := range r.Findings {
		switch f.Level {
		case inspect.Error:
			errs++
		case inspect.Warning:
			warnings++
		default:
			notes++
			if !c.verbose {
				continue
			}
		}
		fmt.Fprintf(out, "%s: %s: %s\n", f.Level, printable(f.Subject), printable(f.Text))
	}
	answer := "nothing found that keeps it from booting"
	if errs > 0 {
		answer = "will not boot as it should"
	}
	more := ""
	if notes > 0 && !c.verbose {
		more = " (-v shows them)"
	}
	fmt.Fprintf(out, "%s: %d errors, %d warnings, %d notes%s\n", answer, errs, warnings, notes, more)
	return out.Flush()
}
