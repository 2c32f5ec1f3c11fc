package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ProgramRoot returns a folder with the files of Debian packages and of the libraries that they depend on, for hapax build --root.
func (l *Lab) ProgramRoot(ctx context.Context, packages ...string) (string, error) {
	key := "root-" + strings.Join(packages, "-")
	return l.made.file(key, func() (string, error) {
		library := func(name string) bool { return strings.HasPrefix(name, "lib") || name == "zlib1g" }
		pkgs, err := l.store.Closure(ctx, library, packages...)
		if err != nil {
			return "", err
		}
		root := filepath.Join(l.Build, "tests", key)
		if err := os.RemoveAll(root); err != nil {
			return "", err
		}
		if err := os.MkdirAll(root, 0o755); err != nil {
			return "", err
		}
		for _, p := range pkgs {
			if out, err := exec.CommandContext(ctx, "cp", "-a", p.Root+"/.", root).CombinedOutput(); err != nil {
				return "", fmt.Errorf("copy package %s: %w: %s", p.Name, err, out)
			}
		}
		return root, nil
	})
}
