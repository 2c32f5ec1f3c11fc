// Package switchroot hands the machine over from the initramfs to the init of the
// real root.
//
// Check comes first and finds everything that can be found without changing
// anything; Switch then moves the mounts, makes the new root "/", frees the
// initramfs and executes the init. Between the two the engine has to be gone.
package switchroot

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// A Target is a root with an init that has passed Check.
type Target struct {
	Root string // where the new root is mounted: "/sysroot"
	Init string // absolute path of the init inside Root, as it will be executed
	// Program is the file that Init leads to, links followed; "" if that is not known.
	Program string
	// Inherit are descriptors that the init gets besides 0, 1 and 2.
	Inherit []int

	// Logf, if not nil, is told what Switch could not do but need not fail for, one line each.
	Logf func(format string, args ...any)
}

// Candidates returns the paths where an init is looked for, in order: init alone if it is not "", for
// who names an init does not want another one; else the kernel's own list (init/main.c).
func Candidates(init string) []string {
	if init != "" {
		return []string{init}
	}
	return []string{"/sbin/init", "/etc/init", "/bin/init", "/bin/sh"}
}

// Check looks for the first candidate that can be executed once the file system mounted at root is "/":
// a regular, executable file, not on a noexec mount, that is an ELF program of this architecture or a
// script, and whose interpreter is the same. Links are followed as they will be then, so that none leads
// out of root. init is the value of init=, "" if not given.
//
// It changes nothing and executes nothing. The error is a *CheckError with the cause for each candidate.
func Check(root, init string) (*Target, error) {
	r, err := openTree(root)
	if err != nil {
		return nil, fmt.Errorf("open new root: %w", err)
	}
	defer r.close()
	failed := &CheckError{Root: root}
	for _, path := range Candidates(init) {
		if !strings.HasPrefix(path, "/") {
			path = "/" + path // the directory it will be executed in
		}
		if err := r.check(path); err != nil {
			failed.Candidates = append(failed.Candidates, CandidateError{path, err})
			continue
		}
		return &Target{Root: root, Init: path, Program: r.resolve(path)}, nil
	}
	return nil, failed
}

// A CheckError says why no candidate can be the init.
type CheckError struct {
	Root       string
	Candidates []CandidateError // in the order in which they were tried
}

// A CandidateError says why Path, a path inside the new root, cannot be the init.
type CandidateError struct {
	Path string
	Err  error
}

func (e *CheckError) Error() string {
	causes := make([]string, len(e.Candidates))
	for i, c := range e.Candidates {
		causes[i] = c.Error()
	}
	return fmt.Sprintf("no init that can be executed in %s: %s", e.Root, strings.Join(causes, "; "))
}

// Unwrap returns the causes.
func (e *CheckError) Unwrap() []error {
	errs := make([]error, len(e.Candidates))
	for i, c := range e.Candidates {
		errs[i] = c
	}
	return errs
}

func (e CandidateError) Error() string { return fmt.Sprintf("%s: %v", quote(e.Path), e.Err) }

// Unwrap returns the cause.
func (e CandidateError) Unwrap() error { return e.Err }

// maxDepth is how often the kernel replaces a script by its interpreter (exec_binprm in fs/exec.c).
const maxDepth = 5

// check reports why path cannot be executed in t as it will be when t is the root.
func (t *tree) check(path string) error { return t.checkDepth(path, 0) }

func (t *tree) checkDepth(path string, depth int) error {
	f, err := t.openProgram(path)
	if err != nil {
		return err
	}
	defer f.Close() // read only: nothing can be lost
	p, err := readProgram(f)
	if err != nil {
		return err
	}
	switch {
	case p.interpreter == "":
		return nil
	case p.script && depth == maxDepth:
		return fmt.Errorf("interpreter %s: %w", quote(p.interpreter), unix.ELOOP)
	case p.script:
		err = t.checkDepth(p.interpreter, depth+1)
	default:
		err = t.checkLoader(p)
	}
	if err != nil {
		return fmt.Errorf("interpreter %s: %w", quote(p.interpreter), err)
	}
	return nil
}

// checkLoader checks the dynamic loader of p: an ELF object for the same machine, whose own interpreter,
// if it names one, the kernel does not look at.
func (t *tree) checkLoader(p program) error {
	f, err := t.openProgram(p.interpreter)
	if err != nil {
		return err
	}
	defer f.Close()
	loader, err := readProgram(f)
	if err != nil {
		return err
	}
	if loader.script || loader.machine != p.machine {
		return errors.New("not for the same machine as the program")
	}
	return nil
}

// quote returns s as it is if a log line can hold it, else quoted.
func quote(s string) string {
	if q := fmt.Sprintf("%q", s); len(q) != len(s)+2 {
		return q
	}
	return s
}
