package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hapax/modload"
	"hapax/modload/modindex"
)

// modulesRoot holds one folder per kernel release.
const modulesRoot = "/lib/modules"

// modules is the engine's view of the Scheduler: where its index comes from
// and where its news go.
type modules struct {
	sched *modload.Scheduler
	index modload.Index
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
	m := &modules{index: noModules{}}
	config, problems := modindex.ReadConfig(modindex.ConfigDirs("/"), e.cmdline)
	for _, err := range problems {
		e.log.Warnf("%v", err)
	}
	opt := modload.Options{
		Config:  config,
		Workers: e.params.Workers,
		Load:    func(modload.Job) modload.Result { return modload.Result{Err: errors.ErrUnsupported} },
		Ended:   e.moduleEnded,
		Idle:    func() { poke(e.nudge) },
		Slow:    e.moduleSlow,
	}
	dir, problem := findModules(modulesRoot, e.release)
	if dir != "" && problem == nil {
		problem = m.open(dir, &opt)
	}
	present, err := modload.ReadPresent()
	if err != nil {
		e.log.Warnf("modules that are loaded already: %v", err)
	}
	opt.Present = present
	opt.Index = m.index
	m.sched = modload.New(opt)
	return m, problem
}

func (m *modules) open(dir string, opt *modload.Options) error {
	index, err := modindex.Open(dir)
	if err != nil {
		return err
	}
	kernel, err := modload.OpenKernel(dir)
	if err != nil {
		return err
	}
	view := index.With(opt.Config)
	m.index, opt.Load, opt.Params = view, kernel.Load, view.Options
	return nil
}

// findModules returns the folder of the running release, and "" if the image
// has no modules at all, as one for a kernel with everything built in. Modules
// of other releases only are an error.
func findModules(root, release string) (string, error) {
	dir := filepath.Join(root, release)
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return dir, nil
	}
	var others []string
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	for _, entry := range entries {
		others = append(others, entry.Name())
	}
	if len(others) == 0 {
		return "", nil
	}
	return "", fmt.Errorf("this image is for kernel %s, but the running kernel is %s: "+
		"build an image for it (hapax build --modules-dir %s)", strings.Join(others, ", "), release, dir)
}

// request passes an alias on; the Scheduler asks the index once per alias.
func (m *modules) request(alias string, o modload.Origin) { m.sched.Request(alias, o) }

// busy reports whether a module is on its way.
func (m *modules) busy() bool { return m.sched.Pending() > 0 }

// requestConfigured asks for the modules of the image's modules-load.d(5)
// files and of the command line.
func (m *modules) requestConfigured(names []string, warnf func(string, ...any)) {
	want := func(name, by string) {
		if len(m.index.Lookup(name).Names) == 0 {
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
	switch m.State {
	case modload.Failed:
		e.log.Warnf("%s (asked for by %s %s)", m.Error, m.Origin.Kind, m.Origin.By)
	case modload.Refused:
		e.log.Debugf("%s (asked for by %s %s)", m.Error, m.Origin.Kind, m.Origin.By)
	default:
		e.log.Debugf("%s live after %.1f ms (asked for by %s %s)", m.Name, m.Ended-m.Begun, m.Origin.Kind, m.Origin.By)
	}
}

// moduleSlow names a module whose init function does not return, who asked for
// it, and where in the kernel it waits.
func (e *engine) moduleSlow(m modload.Module) {
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
