package applet

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hapax/modload/modindex"
)

// A modprobe is one run of modprobe(8).
type modprobe struct {
	*env
	all, remove, lookupOnly, showConfig     bool
	dryRun, show, ignoreLoaded              bool
	ignoreCommands, blacklist, firstTime    bool
	force, forceModversion, forceVermagic   bool
	removeHolders, verbose, quiet, toSyslog bool
	wait                                    time.Duration

	base    string // of -d, "" if not given
	release string // of -S
	configs []string
	nested  []string // what commands get as MODPROBE_OPTIONS

	where string // the modules folder, once modules was called
	view  planner
	conf  *modindex.Config
}

// The codes of options that have a name only.
const (
	optForceVermagic byte = iota + 1
	optForceModversion
	optFirstTime
	optModversions
	optHolders
	optExports
)

func modprobeLongs() []long {
	return []long{
		{"all", false, 'a'},
		{"remove", false, 'r'},
		{"remove-dependencies", false, optHolders},
		{"remove-holders", false, optHolders},
		{"wait", true, 'w'},
		{"resolve-alias", false, 'R'},
		{"first-time", false, optFirstTime},
		{"ignore-install", false, 'i'},
		{"ignore-remove", false, 'i'},
		{"use-blacklist", false, 'b'},
		{"force", false, 'f'},
		{"force-modversion", false, optForceModversion},
		{"force-vermagic", false, optForceVermagic},
		{"show-depends", false, 'D'},
		{"showconfig", false, 'c'},
		{"show-config", false, 'c'},
		{"show-modversions", false, optModversions},
		{"dump-modversions", false, optModversions},
		{"show-exports", false, optExports},
		{"dry-run", false, 'n'},
		{"show", false, 'n'},
		{"config", true, 'C'},
		{"dirname", true, 'd'},
		{"set-version", true, 'S'},
		{"syslog", false, 's'},
		{"quiet", false, 'q'},
		{"verbose", false, 'v'},
		{"version", false, 'V'},
		{"help", false, 'h'},
	}
}

func runModprobe(e *env, args []string) int {
	m := &modprobe{env: e}
	if options := e.getenv("MODPROBE_OPTIONS"); options != "" {
		m.nested = append(m.nested, options)
		args = append(splitOptions(options), args...)
	}
	g := getopt{argv0: e.argv0, shorts: "arw:RibfDcnC:d:S:sqvVh", longs: modprobeLongs(), posix: e.getenv("POSIXLY_CORRECT") != ""}
	g.parse(args)
	for _, o := range g.opts {
		if code, done := m.option(o); done {
			return code
		}
	}
	m.setLevel()
	return m.main(g.operands)
}

// option takes one option. Some end the program.
func (m *modprobe) option(o opt) (code int, done bool) {
	switch o.code {
	case 'a':
		m.all = true
	case 'r':
		m.remove = true
	case optHolders:
		m.removeHolders = true
	case 'w':
		n, err := strconv.ParseUint(o.arg, 0, 31)
		if err != nil {
			m.errorf("unexpected wait value '%s'.", o.arg)
			return 1, true
		}
		m.wait = time.Duration(n) * time.Millisecond
	case optFirstTime:
		m.firstTime = true
	case 'i':
		m.ignoreCommands = true
	case 'b':
		m.blacklist = true
	case 'f':
		m.force = true
	case optForceModversion:
		m.forceModversion = true
	case optForceVermagic:
		m.forceVermagic = true
	case 'D':
		m.ignoreLoaded, m.dryRun, m.show = true, true, true
	case 'R':
		m.lookupOnly = true
	case 'c':
		m.showConfig = true
	case 'n':
		m.dryRun = true
	default:
		return m.generalOption(o)
	}
	return 0, false
}

// generalOption takes the options that have to do with files and messages.
func (m *modprobe) generalOption(o opt) (code int, done bool) {
	switch o.code {
	case 'C':
		m.configs = append(m.configs, o.arg)
		m.nested = append(m.nested, "-C", o.arg)
	case 'd':
		m.base = o.arg
	case 'S':
		m.release = o.arg
	case 's':
		m.toSyslog = true
		m.nested = append(m.nested, "-s")
	case 'q':
		m.quiet = true
		m.nested = append(m.nested, "-q")
	case 'v':
		m.verbose = true
		m.nested = append(m.nested, "-v")
	case 'V':
		return m.version(), true
	case 'h':
		m.help()
		return 0, true
	case '?':
		fmt.Fprintln(m.stderr, o.arg)
		return 1, true
	default: // optModversions, optExports
		m.errorf("the tables of symbol versions are not shown here: use kmod's modprobe")
		return 1, true
	}
	return 0, false
}

// setLevel applies -q and -s. As with kmod, -v has no effect beside -q.
func (m *modprobe) setLevel() {
	if m.quiet {
		m.level, m.verbose = levelNone, false
	}
	if m.toSyslog {
		m.stderr = kmsg{}
	}
}

// version answers -V. The first line is what scripts compare.
func (e *env) version() int {
	fmt.Fprintln(e.stdout, "kmod version 30")
	fmt.Fprintln(e.stdout, "(hapax: its modules are loaded by the engine)")
	return 0
}

func (m *modprobe) main(operands []string) int {
	if m.showConfig {
		m.errorf("the configuration is not shown here: look into %s and its like, or use kmod's modprobe", "/etc/modprobe.d")
		return 1
	}
	if len(operands) == 0 {
		m.errorf("missing parameters. See -h.")
		return 1
	}
	var params string
	if !m.remove && !m.all {
		params = joinParams(operands[1:])
		operands = operands[:1]
	}
	var result error
	for _, query := range operands {
		var err error
		if m.remove {
			err = m.removeQuery(query)
		} else {
			err = m.insertQuery(query, params)
		}
		if err == errFatal {
			return 1
		}
		if err != nil {
			result = err
		}
	}
	return exitCode(result)
}

// complain logs what stops work on one operand. With -a, work goes on with the
// next one.
func (m *modprobe) complain(format string, args ...any) error {
	if m.all {
		return m.log(levelWarning, format, args...)
	}
	return m.log(levelFatal, format, args...)
}

// joinParams makes the parameters of a module from the rest of the command
// line. A value with a blank gets quotes, which the kernel takes off.
func joinParams(args []string) string {
	params := make([]string, len(args))
	for i, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if ok && strings.Contains(value, " ") && value[0] != '"' && value[0] != '\'' {
			arg = key + `="` + value + `"`
		}
		params[i] = arg
	}
	return strings.Join(params, " ")
}

// elsewhere reports whether options name another folder of modules, or another
// configuration, than those of the engine.
func (m *modprobe) elsewhere() bool {
	if len(m.configs) > 0 {
		return true
	}
	return (m.base != "" || m.release != "") && filepath.Clean(m.dir()) != m.moduleDir("", "")
}

// dir returns the modules folder.
func (m *modprobe) dir() string { return m.moduleDir(m.base, m.release) }

// moduleDir returns the folder of modules below base for a release, of which
// both may be "" for those of the running system.
func (e *env) moduleDir(base, release string) string {
	if release == "" {
		var uts unix.Utsname
		_ = unix.Uname(&uts) // it fails for a bad address alone
		release = unix.ByteSliceToString(uts.Release[:])
	}
	if base == "" {
		return e.path("lib/modules", release)
	}
	dir := base + "/lib/modules/" + release
	if wd, err := os.Getwd(); err == nil && !strings.HasPrefix(dir, "/") {
		dir = wd + "/" + dir
	}
	return dir
}

// modules opens the module index with the configuration.
func (m *modprobe) modules() planner {
	if m.view != nil {
		return m.view
	}
	m.where = m.dir()
	dirs := m.configs
	if dirs == nil {
		dirs = modindex.ConfigDirs(m.root)
	}
	cmdline, _ := os.ReadFile(m.path("proc/cmdline")) // without /proc it says nothing
	conf, problems := modindex.ReadConfig(dirs, string(cmdline))
	for _, err := range problems {
		m.errorf("%v", err)
	}
	m.conf, m.view = conf, noIndex{}
	if index, err := modindex.Open(m.where); err == nil {
		m.view = index.With(conf)
	}
	return m.view
}
