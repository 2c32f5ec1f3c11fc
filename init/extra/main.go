// Command extra is the second binary of an image: what a system that stays needs and a boot that hands over does not, so that
// /init, which every image carries and PID 1 keeps in memory, stays small. It looks at argv[0] to know what it is to do.
//
// hapax-base sets the system up (package base).
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"hapax/init/internal/base"
)

func main() { os.Exit(run(os.Args)) }

func run(args []string) int {
	switch filepath.Base(args[0]) {
	case base.Name:
		return base.Run()
	}
	fmt.Fprintf(os.Stderr, "%s: this is a part of a hapax image, which starts it as %s\n", args[0], base.Name)
	return 2
}
