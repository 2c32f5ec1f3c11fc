package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"hapax/image"
	"hapax/image/archive"
	"hapax/image/config"
	"hapax/image/resolve"
)

// How a build is told and what it says, beside what is in the image.
type buildOptions struct {
	config  string
	asJSON  bool
	explain bool
}

func newBuild() *cobra.Command {
	var spec image.Spec
	var options buildOptions
	cmd := &cobra.Command{
		Use:   "build [flags] OUTPUT",
		Short: "Build an image",
		Long: `Build an image with hapax as /init, the modules of one kernel and what they need.

The same files and flags give the same bytes. Times in the image are 0, or SOURCE_DATE_EPOCH if it is set.
OUTPUT appears when it is complete; a build that fails leaves nothing behind.
Every flag but --config, --explain and --json is also a key in ` + config.DefaultFile + `, which the command line overrules.`,
		Example: `  hapax build /boot/initrd.img-$(uname -r)
  hapax build --mode host --explain test.img
  hapax build --modules kernel/drivers/net/ethernet/,-bcache --shell u-root test.img`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.Output = args[0]
			return build(cmd, spec, options)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.config, "config", config.DefaultFile, "take settings from `FILE` and FILE.d/*.toml")
	flags.BoolVar(&options.explain, "explain", false, "say why each file is in the image")
	flags.BoolVar(&options.asJSON, "json", false, "print the summary as JSON")
	flags.BoolVarP(&spec.Force, "force", "f", false, "replace OUTPUT if it exists")
	addSelectionFlags(cmd, &spec)
	addContentFlags(cmd, &spec)
	addFormatFlags(cmd, &spec)
	return cmd
}

// addSelectionFlags adds what decides about the modules and their firmware.
func addSelectionFlags(cmd *cobra.Command, spec *image.Spec) {
	flags := cmd.Flags()
	addChoice(cmd, &spec.Mode, "mode", "where the selection of modules begins", image.Modes()...)
	flags.StringArrayVar(&spec.Profiles, "profile", nil, "with --mode profile: serve the machine of `FILE`, see hapax profile (repeatable)")
	flags.StringVar(&spec.HostRoot, "host-root", "", "with --mode host: `DIR` where the machine's sys and proc are (default /)")
	addChoice(cmd, &spec.Arch, "arch", "architecture of the machines", image.Arches()...)
	flags.StringVar(&spec.ModulesDir, "modules-dir", "",
		"take the modules from `DIR`, a lib/modules/RELEASE folder (default the running kernel's)")
	flags.Func("modules", "add modules: a comma-separated `LIST` of names or aliases; kernel/fs/ adds a folder, -name takes "+
		"a module away with all that need it (repeatable)", func(list string) error {
		rules, err := resolve.ParseRules(list)
		spec.Modules = append(spec.Modules, rules...)
		return err
	})
	flags.StringSliceVar(&spec.ForceLoad, "force-load", nil, "load the modules of this `LIST` at every boot (repeatable)")
	flags.StringSliceVar(&spec.Deny, "deny", nil, "keep the modules of this `LIST`, patterns allowed, out of the image and out of the kernel (repeatable)")
	flags.StringArrayVar(&spec.ModprobeD, "modprobe-d", nil, "apply the modprobe.d(5) files in `DIR` (repeatable; default none, "+
		"with --mode host the machine's)")
	flags.StringArrayVar(&spec.FirmwareDirs, "firmware-dir", nil, "take firmware from `DIR` (repeatable; default lib/firmware below --root)")
	flags.StringSliceVar(&spec.Firmware, "firmware", nil, "add the firmware files of this `LIST`, patterns allowed (repeatable)")
	flags.StringVar(&spec.Microcode, "microcode", "", "put microcode in front: `auto|all|none|DIR`; auto is for the processors of --mode host "+
		"and profile (default auto)")
	addChoice(cmd, &spec.Packing, "module-compression", "compression of each module", image.Packings()...)
}

// addContentFlags adds what decides about the other files.
func addContentFlags(cmd *cobra.Command, spec *image.Spec) {
	flags := cmd.Flags()
	include := func(list *[]image.Include) func(string) error {
		return func(text string) error {
			in, err := image.ParseInclude(text)
			*list = append(*list, in)
			return err
		}
	}
	flags.Func("include", "copy a file or folder into the image, to `SRC[:DST]` (repeatable)", include(&spec.Includes))
	flags.Func("program", "add a program of --root with its libraries, as `SRC[:DST]` (repeatable)", include(&spec.Programs))
	flags.StringArrayVar(&spec.HookDirs, "include-dir", nil,
		"read hooks from `DIR` (repeatable; default etc/hapax/include.d and usr/lib/hapax/include.d below --root)")
	flags.StringVar(&spec.Root, "root", "", "take programs, libraries, hooks and firmware from `DIR` (default /)")
	flags.StringVar(&spec.Shell, "shell", "", "take the /bin/sh for boots that fail from `none|u-root|FILE` (default none)")
	addChoice(cmd, &spec.Rescue, "rescue", "who gets that shell when a boot fails, or at rd.break=: nobody, who is at the console, or who knows "+
		"a password (default shell if there is one)", image.Rescues()...)
	spec.Rescue, flags.Lookup("rescue").DefValue = "", "" // the default depends on --shell
	flags.StringVar(&spec.PasswordFile, "rescue-password-file", "", "with --rescue password: take the password, or its hash as argon2 -id -e "+
		"prints it, from the first line of `FILE` (default: ask on the terminal)")
	flags.BoolVar(&spec.Standalone, "standalone", false, "make an image that stays instead of handing over to a root; one with services in hapax.toml does so")
	flags.StringVar(&spec.Init, "init", "", "take `FILE` as /init (default the one inside of hapax)")
	addChoice(cmd, &spec.Compression, "compression", "compression of the image", archive.Compressions()...)
}

func build(cmd *cobra.Command, spec image.Spec, options buildOptions) error {
	file, err := config.Read(options.config)
	if err != nil {
		return err
	}
	spec = config.Overlay(file, spec, cmd.Flags().Changed)
	if spec.ModulesDir == "" {
		release, err := kernelRelease()
		if err != nil {
			return err
		}
		spec.ModulesDir = filepath.Join("/lib/modules", release)
	}
	if spec.Time, err = sourceDate(os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		return err
	}
	if spec.Rescue == image.RescuePassword && spec.PasswordFile == "" && isTerminal(os.Stdin) {
		if spec.Password, err = askPassword(cmd.Context(), os.Stdin, cmd.ErrOrStderr()); err != nil {
			return err
		}
	}
	line := newProgress(cmd.ErrOrStderr())
	spec.Progress = line.update
	result, err := image.Build(cmd.Context(), spec)
	line.clear()
	if err != nil {
		return err
	}
	if !options.explain {
		result.Explain = nil
	}
	if options.asJSON {
		return printJSON(cmd.OutOrStdout(), result)
	}
	warn(cmd.ErrOrStderr(), spec.Mode, result, options.explain)
	if err := explain(cmd.OutOrStdout(), result.Explain); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d modules of %s, %s in %d files, %s with %s\n", result.Output,
		result.Modules, result.Release, formatBytes(result.Content), result.Files, formatBytes(result.Size), result.Compression)
	return err
}

// warn says what is not in the image although something names it. For an image that serves no machine in particular, most
// firmware that is missing is for devices that nobody has: a line for all of it is enough.
func warn(w io.Writer, mode image.Mode, result image.Result, all bool) {
	for _, text := range result.Warnings {
		fmt.Fprintf(w, "hapax: %s\n", text)
	}
	all = all || mode == image.Host || mode == image.FromProfile
	rest := 0
	for _, m := range result.Missing {
		if all || m.Elsewhere != "" {
			fmt.Fprintf(w, "hapax: %s\n", m)
		} else {
			rest++
		}
	}
	if rest > 0 {
		fmt.Fprintf(w, "hapax: %d firmware files that modules name are missing; --explain lists them\n", rest)
	}
}

// explain prints a line for each file: its size, its name, and why it is there.
func explain(w io.Writer, files []image.Explained) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range files {
		why := strings.ReplaceAll(printable(f.Why), "\t", " ")
		if _, err := fmt.Fprintf(table, "%10d  %s\t%s\n", f.Size, printable(f.Name), why); err != nil {
			return err
		}
	}
	return table.Flush()
}

// sourceDate reads SOURCE_DATE_EPOCH, whose definition is at reproducible-builds.org. Unset it stands for the epoch.
func sourceDate(text string) (time.Time, error) {
	if text == "" {
		return time.Unix(0, 0), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%s: not a number of seconds: correct or unset it", text)
	}
	return time.Unix(seconds, 0), nil
}

// kernelRelease returns what uname -r prints.
func kernelRelease() (string, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	release := unix.ByteSliceToString(uts.Release[:])
	if release == "" {
		return "", errors.New("uname gives no kernel release: use --modules-dir")
	}
	return release, nil
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}
