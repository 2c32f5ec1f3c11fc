// Command setup prepares a Debian machine for make run, make test and make storm: it installs the system packages that are missing,
// fetches the kernels, and then runs a command that finds them in its environment.
//
//	go run ./tests/setup --for run|test|storm [-- COMMAND ARG...]
//
// COMMAND gets HAPAX_KERNEL and HAPAX_MODULES_DIR (the default kernel and its lib/modules/RELEASE) and
// HAPAX_TEST_MODULES (the module folders of all kernels fetched, separated by colons). For tests run by root it gets
// HAPAX_TEST_STRICT as well: everything is there, so no test may be skipped for want of something (tests/need). Packages are installed only as
// root; any other user is told what to install, and setup ends with status 1.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"hapax/tests/internal/lab"
	"hapax/tests/need"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	purpose := flag.String("for", "test", "what to prepare: run, test or storm")
	flag.Parse()
	if purposes()[*purpose] == nil {
		fmt.Fprintf(os.Stderr, "setup: --for %s: want run, test or storm\n", *purpose)
		os.Exit(2)
	}
	if err := setup(ctx, *purpose, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "setup:", err)
		os.Exit(1)
	}
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "setup: "+format+"\n", args...) }

// setup does the whole work. On success with a command it does not return: the command takes the process over.
func setup(ctx context.Context, purpose string, command []string) error {
	apt := newApt()
	if err := apt.install(ctx, missing(purposes()[purpose], purpose)); err != nil {
		return err
	}
	l, err := lab.Open(progress)
	if err != nil {
		return err
	}
	kernels := lab.Trees()
	if purpose != "test" { // the storm bench fetches those that it is asked for
		kernels = kernels[:1]
	}
	env, err := fetchKernels(ctx, l, apt, kernels)
	if err != nil {
		return err
	}
	if len(command) == 0 {
		return nil
	}
	if purpose == "test" && os.Geteuid() == 0 {
		env = append(env, need.StrictEnv+"=1")
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", path, syscall.Exec(path, command, append(os.Environ(), env...)))
}

// fetchKernels fetches what the store lacks and returns the environment that names the kernels.
func fetchKernels(ctx context.Context, l *lab.Lab, apt *apt, specs []lab.KernelSpec) ([]string, error) {
	var env, trees []string
	for i, spec := range specs {
		k, err := l.Kernel(ctx, spec)
		if err != nil && apt.canUpdate() {
			// The lists of a machine image may be missing, or older than what the archive still has.
			if err := apt.update(ctx); err != nil {
				return nil, err
			}
			k, err = l.Kernel(ctx, spec)
		}
		if err != nil {
			return nil, err
		}
		progress("kernel %s is %s", spec.Name, k.Release)
		trees = append(trees, k.ModulesDir)
		if i == 0 {
			env = append(env, "HAPAX_KERNEL="+k.Vmlinuz, "HAPAX_MODULES_DIR="+k.ModulesDir)
		}
	}
	return append(env, need.TreesEnv+"="+strings.Join(trees, ":")), nil
}
