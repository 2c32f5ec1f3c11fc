package guard

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/control"
	"hapax/init/internal/handoff"
	"hapax/init/internal/mnt"
	"hapax/init/internal/service"
)

// An image stays, instead of handing the machine over, if the command line says
// so, or if it has services and no root is named.

// loadServices decides whether the image stays, and makes the manager of what
// runs then: its services, or, where nothing is known of a root and of services,
// the shell alone.
func (g *guard) loadServices() {
	linux := &service.Linux{Logger: g.log, Path: handoff.SearchPath, Term: term(), Console: consolePath, Cgroup: mnt.CgroupDir}
	specs := g.specs()
	linux.Prepare(specs)
	g.services = service.New(specs, linux, g.log)
	if len(specs) == 0 {
		return
	}
	l, err := control.Listen(control.GuardPath)
	if err != nil {
		g.log.Warnf("services cannot be asked for: %v", err)
		return
	}
	go func() { _ = control.NewGuardServer(ofServices{g.services}, g.log.Warnf).Serve(context.Background(), l) }()
}

// specs returns the services of this boot.
func (g *guard) specs() []service.Spec {
	text, err := os.ReadFile(service.File)
	found := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.log.Errorf("%v", err)
	}
	switch {
	case g.params.Mode == cmdline.Standalone, g.params.Mode == "" && g.params.Root == "" && found:
		g.stays, g.noRoot = true, true
	case g.params.Root != "":
		return nil
	}
	if g.stays && found {
		specs, err := service.Parse(string(text))
		if err == nil {
			return specs
		}
		g.log.Errorf("%s: %v: no service is started", service.File, err)
	}
	program, reason := theShell()
	if program == "" {
		g.log.Debugf("no shell: %s", reason)
		return nil
	}
	return []service.Spec{service.Shell(program, "HOME=/", "PS1=hapax# ")}
}

// startServices starts what can be before the devices are there. If no service
// sets the system up, that is as good as done.
func (g *guard) startServices() {
	if !g.services.Has(service.Base) {
		g.services.Reached(service.Base)
	}
	g.services.Start()
}

// settled is called when the engine has settled, and there is no root to go to.
func (g *guard) settled() {
	if !g.stays {
		g.mountForShell()
	}
	g.services.Reached(service.Settled)
}

// stopServices ends all services, and reports whether none is left to wait for.
func (g *guard) stopServices() (done bool) {
	g.end.stopped = g.services.Stop()
	select {
	case <-g.end.stopped:
		g.end.stopped = nil
		return true
	default:
		return false
	}
}

// ofServices answers what is asked at the guard's socket.
type ofServices struct{ m *service.Manager }

func (s ofServices) Command(ctx context.Context, verb, name string) error {
	return s.m.Ask(ctx, service.Verb(verb), name)
}

func (s ofServices) Services(ctx context.Context, name string) (any, error) {
	return s.m.Status(ctx, name)
}

func (s ofServices) Log(ctx context.Context, name string) ([]byte, error) { return s.m.Log(ctx, name) }

// consolePath returns the terminal behind /dev/console, which itself can not
// become a controlling terminal and so would leave a shell without job control.
func consolePath() string {
	if b, err := os.ReadFile("/sys/class/tty/console/active"); err == nil {
		if names := strings.Fields(string(b)); len(names) > 0 {
			return filepath.Join("/dev", filepath.Base(names[len(names)-1]))
		}
	}
	return "/dev/console"
}
