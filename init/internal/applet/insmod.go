package applet

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"hapax/modload"
)

// runInsmod is insmod(8): one file, no index.
func runInsmod(e *env, args []string) int {
	g := getopt{
		argv0:  e.argv0,
		shorts: "psfVh",
		longs:  []long{{"version", false, 'V'}, {"help", false, 'h'}},
		posix:  e.getenv("POSIXLY_CORRECT") != "",
	}
	g.parse(args)
	flags := 0
	for _, o := range g.opts {
		switch o.code {
		case 'f':
			flags = unix.MODULE_INIT_IGNORE_MODVERSIONS | unix.MODULE_INIT_IGNORE_VERMAGIC
		case 'V':
			return e.version()
		case 'h':
			fmt.Fprintf(e.stdout, insmodHelp, e.name)
			return 0
		case '?':
			fmt.Fprintln(e.stderr, o.arg)
			return 1
		}
	}
	if len(g.operands) == 0 {
		e.errorf("missing filename.")
		return 1
	}
	return e.insmod(g.operands[0], strings.Join(g.operands[1:], " "), flags)
}

const insmodHelp = `Usage:
	%s [options] filename [args]
Options:
	-f                Ignore the module's version and version magic
	-p, -s            Accepted and ignored
	-V, --version     show version
	-h, --help        show this help
`

func (e *env) insmod(file, params string, flags int) int {
	if file == "-" {
		e.errorf("this tool does not support loading from stdin!")
		return 1
	}
	if _, err := os.Stat(file); err != nil {
		e.errorf("could not load module %s: %s", file, strerror(err))
		return 1
	}
	path := file
	if wd, err := os.Getwd(); err == nil && !strings.HasPrefix(path, "/") {
		path = wd + "/" + path
	}
	outcomes, err := e.client.Load(modload.Call{
		Query: path, Params: params, Flags: flags, Asker: e.getenv("MODPROBE_MODULE"),
	})
	for _, o := range outcomes {
		if err = o.Err; err == nil && !o.New {
			err = unix.EEXIST
		}
	}
	if err != nil {
		e.errorf("could not insert module %s: %s", file, insmodError(err))
		return 1
	}
	return 0
}

// insmodError is strerror with insmod's words for what the kernel means.
func insmodError(err error) string {
	switch {
	case errors.Is(err, unix.ENOEXEC):
		return "Invalid module format"
	case errors.Is(err, unix.ENOENT):
		return "Unknown symbol in module"
	case errors.Is(err, unix.ESRCH):
		return "Module has wrong symbol version"
	case errors.Is(err, unix.EINVAL):
		return "Invalid parameters"
	}
	return strerror(err)
}
