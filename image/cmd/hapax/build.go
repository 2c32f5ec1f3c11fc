package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"hapax/image"
	"hapax/image/archive"
	"hapax/image/resolve"
)

func newBuild() *cobra.Command {
	var spec image.Spec
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "build [flags] OUTPUT",
		Short: "Build an initramfs image",
		Long: `Build an initramfs image with hapax as /init, the modules of one kernel and what they need.

The same files and flags give the same bytes. Times in the image are 0, or SOURCE_DATE_EPOCH if it is set.
OUTPUT appears when it is complete; a build that fails leaves nothing behind.`,
		Example: `  hapax build /boot/initrd.img-$(uname -r)
  hapax build --modules kernel/drivers/net/ethernet/,-bcache --shell u-root test.img`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.Output = args[0]
			return build(cmd, spec, asJSON)
		},
	}
	flags := cmd.Flags()
	addChoice(cmd, &spec.Mode, "mode", "where the selection of modules begins", image.Modes()...)
	flags.StringVar(&spec.ModulesDir, "modules-dir", "",
		"take the modules from `DIR`, a lib/modules/RELEASE folder (default the running kernel's)")
	flags.Func("modules", "add modules: a comma-separated `LIST` of names or aliases; kernel/fs/ adds a folder, -name takes "+
		"a module away with all that need it (repeatable)", func(list string) error {
		rules, err := resolve.ParseRules(list)
		spec.Modules = append(spec.Modules, rules...)
		return err
	})
	flags.StringSliceVar(&spec.ForceLoad, "force-load", nil, "load the modules of this `LIST` at every boot (repeatable)")
	flags.Func("include", "copy a file or folder into the image, to `SRC[:DST]` (repeatable)", func(text string) error {
		in, err := image.ParseInclude(text)
		spec.Includes = append(spec.Includes, in)
		return err
	})
	flags.StringVar(&spec.Shell, "shell", image.NoShell, "take the /bin/sh for boots that fail from `none|u-root|FILE`")
	flags.StringVar(&spec.Init, "init", "", "take `FILE` as /init (default the one inside of hapax)")
	addChoice(cmd, &spec.Compression, "compression", "compression of the image", archive.Compressions()...)
	flags.BoolVarP(&spec.Force, "force", "f", false, "replace OUTPUT if it exists")
	flags.BoolVar(&asJSON, "json", false, "print the summary as JSON")
	return cmd
}

func build(cmd *cobra.Command, spec image.Spec, asJSON bool) error {
	if spec.ModulesDir == "" {
		release, err := kernelRelease()
		if err != nil {
			return err
		}
		spec.ModulesDir = filepath.Join("/lib/modules", release)
	}
	var err error
	if spec.Time, err = sourceDate(os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		return err
	}
	line := newProgress(cmd.ErrOrStderr())
	spec.Progress = line.update
	result, err := image.Build(cmd.Context(), spec)
	line.clear()
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), result)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d modules of %s, %s in %d files, %s with %s\n", result.Output,
		result.Modules, result.Release, formatBytes(result.Content), result.Files, formatBytes(result.Size), result.Compression)
	return err
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
