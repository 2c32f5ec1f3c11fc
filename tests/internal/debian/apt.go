package debian

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// candidate asks apt which version of a package it would install.
func candidate(ctx context.Context, name string) (control, error) {
	out, err := run(ctx, "", "apt-cache", "show", "--no-all-versions", "--", name)
	if err != nil {
		return control{}, err
	}
	return parseControl(out)
}

// fetch downloads the package, unpacks it into dir/root and gives its module trees their indexes.
func fetch(ctx context.Context, c control, dir string) error {
	if _, err := run(ctx, dir, "apt-get", "-q", "download", c.name+"="+c.version); err != nil {
		return fmt.Errorf("%w (are the package lists up to date? run apt-get update as root)", err)
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("apt-get download %s left %d files, want one", c.name, len(debs))
	}
	root := filepath.Join(dir, rootDir)
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if _, err := run(ctx, dir, "dpkg-deb", "-x", debs[0], root); err != nil {
		return err
	}
	if err := os.Remove(debs[0]); err != nil {
		return err
	}
	trees, err := filepath.Glob(filepath.Join(root, "lib/modules/*/kernel"))
	if err != nil {
		return err
	}
	for _, t := range trees {
		if _, err := run(ctx, dir, "depmod", "-b", root, filepath.Base(filepath.Dir(t))); err != nil {
			return err
		}
	}
	return nil
}

// run runs a tool in dir and returns its standard output; the error holds the last of what it wrote to stderr.
func run(ctx context.Context, dir, name string, args ...string) (string, error) {
	path, err := Tool(name)
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, lastLine(stderr.String()))
	}
	return stdout.String(), nil
}

// Tool returns the path of a program, which may lie in the folders for the system administrator
// that Debian leaves out of a user's PATH.
func Tool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w (make test as root installs what is missing)", err)
}

// lastLine returns the last line of s that is not empty.
func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
