package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"hapax/init/internal/applet"
	"hapax/init/internal/control"
	"hapax/init/internal/handoff"
	"hapax/modload"
)

// openControl makes the socket, the names of the applets and, once somebody
// listens, the helper of the kernel. Without it a boot goes on as one where the
// kernel has no modprobe.
func (e *engine) openControl() {
	self := handoff.Self()
	for _, name := range applet.Names() {
		if err := linkApplet("/sbin", name, self); err != nil {
			e.log.Debugf("%v", err)
		}
	}
	listener, err := control.Listen(control.Path)
	if err != nil {
		e.log.Errorf("%v", err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	e.stopControl = stop
	e.control = control.NewServer(backend{e}, e.log.Warnf)
	go func() {
		if err := e.control.Serve(ctx, listener); err != nil {
			e.log.Errorf("%v", err)
		}
	}()
	if err := e.takeUpcalls(self); err != nil {
		e.log.Warnf("the kernel's own requests for modules will not be answered: %v", err)
	}
}

// linkApplet makes an applet callable, unless the image has a program of that
// name there.
func linkApplet(dir, name, self string) error {
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.Symlink(self, filepath.Join(dir, name))
	}
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// takeUpcalls makes the kernel ask us. The guard puts the old value back.
func (e *engine) takeUpcalls(self string) error {
	if err := os.Remove(handoff.HelperPath); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(self, handoff.HelperPath); err != nil {
		return err
	}
	return os.WriteFile(handoff.ModprobeSysctl, []byte(handoff.HelperPath), 0)
}

// A backend answers what comes through the control socket.
type backend struct{ *engine }

func (b backend) Do(ctx context.Context, c modload.Call) ([]modload.Outcome, error) {
	b.modules.refresh(b.log.Warnf)
	if c.Origin.Kind == modload.Upcall {
		c.Asker = b.modules.asker(c.Query)
	} else {
		c.Again = true
	}
	return b.modules.sched.Do(ctx, c)
}

func (b backend) Remove(ctx context.Context, name string, flags int) error {
	return b.modules.sched.Remove(ctx, name, flags)
}

func (b backend) Settle(ctx context.Context) error {
	for {
		if err := b.modules.sched.Settle(ctx); err != nil {
			return err
		}
		reached := make(chan struct{})
		select {
		case b.settling <- reached:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-reached:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b backend) Status() any { return b.status() }

func (b backend) Why(name string) (modload.Module, bool) {
	m, ok := b.modules.sched.Module(name)
	if ok {
		m.Size = modload.ReadSizes()[m.Name]
	}
	return m, ok
}

func (b backend) Trace(ctx context.Context) <-chan modload.Module { return b.watchers.add(ctx) }

func (b backend) Reload() error {
	if err := b.modules.reload(); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	return nil
}
