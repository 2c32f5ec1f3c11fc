// Command hapax builds, looks into, checks and boots images that load every kernel module exactly once, and says which
// modules those are.
//
// Exit codes: 0 done, 1 failed, 2 wrong usage; `hapax run` passes QEMU's on, and 1 of `hapax diff` and `hapax check` is an
// answer. Errors are one line on stderr.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// Whoever asks again does not wait for what cannot be broken off. timeout(1) asks twice at once, and means one.
	context.AfterFunc(ctx, func() {
		time.Sleep(time.Second)
		stop()
	})
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes of hapax.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// An exitError ends hapax with a code when it has been said already what is wrong, perhaps by the program that it ran.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// run is hapax without the process around it. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	parsed := false
	root := newRoot()
	// Whatever fails before this is the fault of the command line.
	root.PersistentPreRun = func(*cobra.Command, []string) { parsed = true }
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)

	used, err := root.ExecuteContextC(ctx)
	exit, passOn := errors.AsType[*exitError](err)
	switch {
	case err == nil:
		return exitDone
	case passOn:
		return exit.code
	case !parsed:
		fmt.Fprintf(stderr, "hapax: %s (see %s --help)\n", oneLine(err), used.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(stderr, "hapax: %s\n", oneLine(err))
	return exitFailed
}

// newRoot returns hapax with all its commands.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "hapax",
		Short:         "Build, look into and boot images that load every kernel module exactly once",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newBuild(), newCat(), newCheck(), newDiff(), newList(), newProfile(), newResolve(), newRun(), newUnpack(),
		newVersion())
	return root
}

// oneLine returns the message of err with the line ends that joined errors have turned into semicolons, and without what a terminal
// might take for a command: names of files may be anybody's.
func oneLine(err error) string {
	line := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, line)
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of hapax and of the Go that compiled it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			version, revision := "(devel)", ""
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
				revision = setting(info, "vcs.revision")
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.Join(strings.Fields(
				"hapax "+version+" "+revision+" "+runtime.Version()+" "+runtime.GOOS+"/"+runtime.GOARCH), " "))
			return err
		},
	}
}

// setting returns a build setting, "" if there is none.
func setting(info *debug.BuildInfo, key string) string {
	i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == key })
	if i < 0 {
		return ""
	}
	return info.Settings[i].Value
}
