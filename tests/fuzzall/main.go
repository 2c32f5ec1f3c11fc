// Command fuzzall runs every fuzz target of the module, one after the other,
// for the same time each. go test itself fuzzes one target of one package.
//
//	go run ./tests/fuzzall -time 30s
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

func main() {
	perTarget := flag.Duration("time", 30*time.Second, "how long to fuzz each target")
	flag.Parse()
	if err := run(*perTarget); err != nil {
		fmt.Fprintln(os.Stderr, "fuzzall:", err)
		os.Exit(1)
	}
}

func run(perTarget time.Duration) error {
	pkgs, err := output("list", "./...")
	if err != nil {
		return err
	}
	for _, pkg := range pkgs {
		targets, err := output("test", "-run=^$", "-list=^Fuzz", pkg)
		if err != nil {
			return err
		}
		for _, target := range targets {
			if !strings.HasPrefix(target, "Fuzz") {
				continue // go test's own last line
			}
			fmt.Println("==", pkg, target)
			cmd := exec.Command("go", "test", "-run=^$", "-fuzz=^"+target+"$", "-fuzztime="+perTarget.String(), pkg)
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("%s %s: %w", pkg, target, err)
			}
		}
	}
	return nil
}

// output returns the lines that a go command prints.
func output(args ...string) ([]string, error) {
	cmd := exec.Command("go", args...)
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n"), nil
}
