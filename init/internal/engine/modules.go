package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/fault"
	"hapax/modload"
	"hapax/modload/modindex"
)

// modulesRoot holds one folder per kernel release.
const modulesRoot = "/lib/modules"

// modules is the engine's view of the Scheduler: where its index comes from
// and where its news go.
type modules struct {
	sched   *modload.Scheduler
	cmdline string
	dir     string          // the modules folder; "" if there is none
	kernel  *modload.Kernel // nil without dir
	tracer  *tracer         // nil if the kernel does not tell who asks

	mu     sync.Mutex // guards what follows; Reload is called under it
	opened *modindex.Index
	stamp  stamp
	looked time.Time
	index  modload.Index
}

// noModules is the index of a kernel that has everything built in.
type noModules struct{}

func (noModules) Lookup(string) modindex.Hits                { return modindex.Hits{} }
func (noModules) Module(string) (m modindex.Module, ok bool) { return m, false }

// openModules makes the Scheduler for the running kernel. An error says that
// the image does not fit the kernel; the Scheduler is usable all the same and
// then knows no module.
func openModules(e *engine) (*modules, error) {
	var uts unix.Utsname
	_ = unix.Uname(&uts) // it fails for a bad address alone
	e.release = unix.ByteSliceToString(uts.Release[:])
	m := &modules{index: noModules{}, cmdline: e.cmdline}
	opt := modload.Options{
		Workers:   e.params.Workers,
		Load:      func(modload.Job) modload.Result { return modload.Result{Err: errors.ErrUnsupported} },
		Run:       runCommand,
		Ended:     e.moduleEnded,
		Idle:      func() { poke(e.nudge) },
		Slow:      e.moduleSlow,
		Unmatched: e.unserved.add,
	}
	dir, problem := findModules(modulesRoot, e.release)
	if dir != "" && problem == nil {
		problem = m.open(dir, &opt)
	}
	var complaints []error
	opt.Index, opt.Config, opt.Params, complaints = m.configured()
	for _, err := range complaints {
		e.log.Warnf("%v", err)
	}
	present, err := modload.ReadPresent()
	if err != nil {
		e.log.Warnf("modules that are loaded already: %v", err)
	}
	opt.Present = present
	m.sched = modload.New(opt)
	return m, problem
}

// open makes what inserts the modules of dir. The Scheduler takes the rest from
// configured.
func (m *modules) open(dir string, opt *modload.Options) error {
	index, err := modindex.Open(dir)
	if err != nil {
		return err
	}
	kernel, err := modload.OpenKernel(dir)
	if err != nil {
		return err
	}
	m.dir, m.opened, m.stamp, m.kernel = dir, index, stampOf(dir), kernel
	opt.Unload = kernel.Unload
	opt.Load = func(j modload.Job) modload.Result {
		fault.At("insert")
		res := kernel.Load(j)
		fault.At("inserted")
		return res
	}
	if m.tracer = openTracer(tracefsPath); m.tracer == nil {
		opt.Asking = func(name string) bool { return kernel.Asking(name) && !helperOnItsWay("/proc") }
	}
	return nil
}

// configured returns what the Scheduler asks about modules: the index as
// modprobe.d and the kernel command line let it appear. The errors are about
// single lines of the configuration.
func (m *modules) configured() (index modload.Index, c *modindex.Config, params func(name, query string) string, complaints []error) {
	c, complaints = modindex.ReadConfig(modindex.ConfigDirs("/"), m.cmdline)
	if m.opened == nil {
		return m.index, c, nil, complaints
	}
	view := m.opened.With(c)
	m.index = view
	return view, c, view.Options, complaints
}

// A stamp tells one state of the index from another.
type stamp struct {
	file    uint64 // inode of modules.dep.bin, or of modules.dep if there is no other
	changed time.Time
	config  time.Time // the latest change of a folder of modprobe.d
}

// stampOf reads the stamp of a modules folder; what is not there is zero.
func stampOf(dir string) (s stamp) {
	for _, name := range []string{"modules.dep.bin", "modules.dep"} {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(dir, name), &st) == nil {
			s.file, s.changed = st.Ino, time.Unix(st.Mtim.Unix())
			break
		}
	}
	for _, folder := range modindex.ConfigDirs("/") {
		if info, err := os.Stat(folder); err == nil && info.ModTime().After(s.config) {
			s.config = info.ModTime()
		}
	}
	return s
}

// lookEvery is how often refresh looks at most. What has changed within that
// time is seen at the next request.
const lookEvery = time.Second

// refresh reads the index again if depmod(8) or an administrator has changed
// it. It is called before a request that somebody waits for.
func (m *modules) refresh(warnf func(string, ...any)) {
	m.mu.Lock()
	due := m.opened != nil && time.Since(m.looked) >= lookEvery
	if due {
		m.looked = time.Now()
		due = stampOf(m.dir) != m.stamp
	}
	m.mu.Unlock()
	if due {
		if err := m.reload(); err != nil {
			warnf("%v", err)
		}
	}
}

// reload reads the index and its configuration again. The old index stays open:
// a search may be under way in it, and it is a few hundred kilobytes of a
// mapped file.
func (m *modules) reload() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.opened == nil {
		return errors.New("this image has no modules for the running kernel")
	}
	now := stampOf(m.dir)
	index, err := modindex.Open(m.dir)
	if err != nil {
		return err
	}
	m.opened, m.stamp = index, now
	view, config, params, complaints := m.configured()
	m.sched.Reload(view, config, params)
	return errors.Join(complaints...)
}

// asker returns the module whose init function has made a request of that name
// and waits for it, "" if it is none or nobody can tell.
func (m *modules) asker(name string) string {
	if m.tracer == nil {
		return ""
	}
	return m.tracer.thread(name, m.kernel.Inserter)
}

// findModules returns the folder of the running release, and "" if the image
// has no modules at all, as one for a kernel with everything built in. Modules
// of other releases only are an error.
func findModules(root, release string) (string, error) {
	dir := filepath.Join(root, release)
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return dir, nil
	}
	f, err := os.Open(root)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	others, err := f.Readdirnames(-1)
	if err != nil || len(others) == 0 {
		return "", err
	}
	slices.Sort(others)
	return "", fmt.Errorf("this image is for kernel %s, but the running kernel is %s: "+
		"build an image for it (hapax build --modules-dir %s)", strings.Join(others, ", "), release, dir)
}

// request passes an alias on; the Scheduler asks the index once per alias.
func (m *modules) request(alias string, o modload.Origin) { m.sched.Request(alias, o) }

// lookup returns the modules that a query stands for.
func (m *modules) lookup(query string) []string {
	m.mu.Lock()
	index := m.index
	m.mu.Unlock()
	return index.Lookup(query).Names
}

// busy reports whether a module is on its way.
func (m *modules) busy() bool { return m.sched.Pending() > 0 }

// requestConfigured asks for the modules of the image's modules-load.d(5)
// files and of the command line.
func (m *modules) requestConfigured(names []string, warnf func(string, ...any)) {
	want := func(name, by string) {
		if len(m.lookup(name)) == 0 {
			warnf("%s asks for module %s, which this image does not have", by, name)
			return
		}
		m.request(name, modload.Origin{Kind: modload.Named, By: by})
	}
	files, _ := filepath.Glob("/etc/modules-load.d/*.conf") // the pattern is valid
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' && line[0] != ';' {
				want(line, file)
			}
		}
	}
	for _, name := range names {
		want(name, "the kernel command line")
	}
}

// moduleEnded logs what became of a module. A refusal is everyday life.
func (e *engine) moduleEnded(m modload.Module) {
	fault.At("ended")
	poke(e.ended)
	e.watchers.tell(m)
	switch m.State {
	case modload.Failed:
		if e.modules.saysBarred() {
			e.barred.Do(func() { e.log.Warnf("%s; the same holds for every other module", m.Error) })
			return
		}
		e.log.Warnf("%s (asked for by %s %s)", m.Error, m.Origin.Kind, m.Origin.By)
	case modload.Refused:
		e.log.Debugf("%s (asked for by %s %s)", m.Error, m.Origin.Kind, m.Origin.By)
	case modload.Removed:
		e.log.Debugf("%s removed", m.Name)
	default:
		e.log.Debugf("%s live after %.1f ms (asked for by %s %s)", m.Name, m.Ended-m.Begun, m.Origin.Kind, m.Origin.By)
	}
}

// saysBarred reports whether the kernel lets no module in at all.
func (m *modules) saysBarred() bool { return m != nil && m.kernel != nil && m.kernel.Barred() != nil }

// moduleSlow names a module whose init function does not return, who asked for
// it, and where in the kernel it waits.
func (e *engine) moduleSlow(m modload.Module) {
	if m.Command != "" {
		e.log.Warnf("the install command of %s has run for 10 s (asked for by %s %s): %s", m.Name, m.Origin.Kind, m.Origin.By, m.Command)
		return
	}
	e.log.Warnf("%s has been in its init function for 10 s (asked for by %s %s)\n%s",
		m.Name, m.Origin.Kind, m.Origin.By, kernelStack("/proc/self/task", m.Name))
}

// kernelStack returns the kernel stack of the thread below tasks that runs
// code of module, "" if there is none or the kernel does not tell.
func kernelStack(tasks, module string) string {
	files, _ := filepath.Glob(filepath.Join(tasks, "*/stack")) // the pattern is valid
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(b), " ["+module+"]") {
			return string(b)
		}
	}
	return ""
}
