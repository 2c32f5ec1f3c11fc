package applet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hapax/modload/modindex"
)

// runRmmod is rmmod(8): the modules that are named and no others.
func runRmmod(e *env, args []string) int {
	g := getopt{
		argv0:  e.argv0,
		shorts: "fsvVwh",
		longs: []long{
			{"force", false, 'f'}, {"syslog", false, 's'}, {"verbose", false, 'v'}, {"version", false, 'V'}, {"help", false, 'h'},
		},
		posix: e.getenv("POSIXLY_CORRECT") != "",
	}
	g.parse(args)
	force := false
	for _, o := range g.opts {
		switch o.code {
		case 'f':
			force = true
		case 's':
			e.stderr = kmsg{}
		case 'v':
		case 'V':
			return e.version()
		case 'h':
			fmt.Fprintf(e.stdout, rmmodHelp, e.name)
			return 0
		case '?':
			fmt.Fprintln(e.stderr, o.arg)
			return 1
		default: // kmod knows the letter, too, and nothing more
			e.errorf("unexpected getopt_long() value '%c'.", o.code)
			return 1
		}
	}
	if len(g.operands) == 0 {
		e.errorf("missing module name.")
		return 1
	}
	code := 0
	for _, arg := range g.operands {
		if !e.rmmod(arg, force) {
			code = 1
		}
	}
	return code
}

const rmmodHelp = `Usage:
	%s [options] modulename ...
Options:
	-f, --force       forces a module unload and may crash your
	                  machine. This requires Forced Module Removal
	                  option in your kernel. DANGEROUS
	-s, --syslog      print to the kernel's log, not stderr
	-v, --verbose     accepted and ignored
	-V, --version     show version
	-h, --help        show this help
`

func (e *env) rmmod(arg string, force bool) bool {
	name := moduleName(arg)
	if !force && e.inUse(name) {
		return false
	}
	flags := unix.O_NONBLOCK
	if force {
		flags |= unix.O_TRUNC
	}
	if err := e.client.Remove(name, flags); err != nil {
		// libkmod says it once, and rmmod once more.
		e.errorf("could not remove '%s': %s", name, removeError(err))
		e.errorf("could not remove module %s: %s", arg, removeError(err))
		return false
	}
	return true
}

// moduleName returns the module that an argument names: itself, or the one in
// the file of that name.
func moduleName(arg string) string {
	if _, err := os.Stat(arg); err == nil {
		arg = filepath.Base(arg)
	}
	name, _, _ := strings.Cut(arg, ".")
	return modindex.Normalize(name)
}

// inUse reports whether the module cannot go, and says why.
func (e *env) inUse(name string) bool {
	if e.presence(name) == absent {
		if m, known := openIndex(e.moduleDir("", "")).Module(name); known && m.Builtin {
			e.errorf("Module %s is builtin.", name)
		} else {
			e.errorf("Module %s is not currently loaded", name)
		}
		return true
	}
	holders, err := e.holders(name)
	if err != nil {
		e.errorf("could not open '%s': %s", e.path("sys/module", name, "holders"), strerror(err))
	}
	if len(holders) > 0 {
		e.errorf("Module %s is in use by: %s", name, strings.Join(holders, " "))
		return true
	}
	switch n := e.number(name, "refcnt"); {
	case n > 0:
		e.errorf("Module %s is in use", name)
	case n == -int(unix.ENOENT):
		e.errorf("Module unloading is not supported")
	case n == 0:
		return false
	}
	return true
}
