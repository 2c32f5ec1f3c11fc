// Command extra is the second binary of an image: what a system that stays needs and a boot that hands over does not, so that
// /init, which every image carries and PID 1 keeps in memory, stays small. It looks at argv[0] to know what it is to do.
//
// hapax-base sets the system up (package base), hapax-net brings its network up and stays with it (package network).
// hapax-login asks for the password of the rescue shell (package login).
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"hapax/init/internal/base"
	"hapax/init/internal/login"
	"hapax/init/internal/network"
)

func main() { os.Exit(run(os.Args)) }

func run(args []string) int {
	switch filepath.Base(args[0]) {
	case base.Name:
		return base.Run()
	case network.Name:
		return network.Run()
	case login.Name:
		return login.Run()
	}
	fmt.Fprintf(os.Stderr, "%s: this is a part of a hapax image, which starts it as %s, %s or %s\n", args[0], base.Name, network.Name, login.Name)
	return 2
}
