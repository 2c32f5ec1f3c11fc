// Command shell compiles the commands of u-root that hapax offers as a rescue shell (`hapax build --shell u-root`) into
// one static binary that is named differently for each command, in the manner of busybox.
//
// It is a module of its own: what u-root's commands import is no business of the product's go.mod. Run it in its folder:
//
//	go run . -o ../../bin/u-root
//
// Beside the binary it writes FILE.commands, the names of the commands, one a line, from which the image builder makes
// the links.
package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"log"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/u-root/gobusybox/src/pkg/bb"
	"github.com/u-root/gobusybox/src/pkg/golang"
)

//go:embed commands.go
var commandList string

func main() {
	output := flag.String("o", "u-root", "`file` to write the binary to")
	flag.Parse()
	if err := run(*output); err != nil {
		fmt.Fprintln(os.Stderr, "shell:", err)
		os.Exit(1)
	}
}

// run builds the binary at output and its list at output+".commands".
func run(output string) error {
	packages, err := commands(commandList)
	if err != nil {
		return err
	}
	output, err = filepath.Abs(output)
	if err != nil {
		return err
	}
	generated, err := os.MkdirTemp("", "hapax-shell-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(generated)

	env := golang.Default(golang.DisableCGO(), golang.WithBuildTag("goshliner"))
	if err := env.CompilerInit(); err != nil {
		return fmt.Errorf("find the go command: %w", err)
	}
	if err := bb.BuildBusybox(log.New(os.Stderr, "shell: ", 0), &bb.Opts{
		Env:          env,
		GenSrcDir:    generated,
		CommandPaths: packages,
		BinaryPath:   output,
		GoBuildOpts:  &golang.BuildOpts{},
	}); err != nil {
		return err
	}
	var names strings.Builder
	for _, p := range packages {
		fmt.Fprintln(&names, path.Base(p))
	}
	return os.WriteFile(output+".commands", []byte(names.String()), 0o644)
}

// commands returns the import paths of a Go file, in its order.
func commands(source string) ([]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "commands.go", source, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	if len(file.Imports) == 0 {
		return nil, errors.New("commands.go imports no command")
	}
	var packages []string
	for _, spec := range file.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		packages = append(packages, name)
	}
	return packages, nil
}
