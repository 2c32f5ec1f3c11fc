// Command init is /init of a hapax image: PID 1, the engine that PID 1 starts,
// and what else an image needs, in one file that looks at its pid and at
// argv[0] to know which it is.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"hapax/init/internal/applet"
	"hapax/init/internal/engine"
	"hapax/init/internal/guard"
	"hapax/init/internal/slim"
)

func main() { os.Exit(run(os.Getpid(), os.Args)) }

func run(pid int, args []string) int {
	switch {
	case filepath.Base(args[0]) == guard.EngineName:
		return engine.Run(guard.EngineFD)
	case pid == 1 && guard.ExitCalled(args):
		return guard.Exit(args)
	case pid == 1:
		return guard.Run(args[1:])
	}
	slim.Allow()
	switch {
	case applet.Named(args[0]):
		return applet.Run(args)
	case len(args) > 1 && applet.Named(args[1]): // init modprobe ...
		return applet.Run(args[1:])
	}
	fmt.Fprintf(os.Stderr, "%s: this is the /init of a hapax image; it runs as PID 1 (see hapax run)\n", args[0])
	return 2
}
