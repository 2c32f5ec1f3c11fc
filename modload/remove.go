package modload

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"hapax/modload/modindex"
)

// Remove takes a live module out of the kernel and waits until that is done. A
// load that is asked for meanwhile begins when it is out, and a module whose
// load is under way is removed when it has come in. The flags are those of
// delete_module(2); the error is ErrDraining, that of ctx, or a *LoadError with
// ErrNotLoaded, ErrBuiltin, ErrInUse, or the kernel's.
func (s *Scheduler) Remove(ctx context.Context, name string, flags int) error {
	name = modindex.Normalize(name)
	if s.opt.Unload == nil {
		return &LoadError{Module: name, Op: "remove", Err: ErrBarred}
	}
	r, err := s.take(ctx, name)
	if err != nil {
		return err
	}
	answer := make(chan error, 1)
	go func() {
		err := s.opt.Unload(r.kernelName(), flags)
		s.mu.Lock()
		s.taken(r, err)
		s.start(0)
		s.unlock()
		answer <- err
	}()
	select {
	case err := <-answer:
		return removalError(name, err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take waits until the module is at rest and makes it Removing.
func (s *Scheduler) take(ctx context.Context, name string) (*record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.draining {
			return nil, ErrDraining
		}
		r := s.table[name]
		if r == nil {
			r = s.foreign(name)
		}
		if r.state.Ended() {
			if err := s.removable(r); err != nil {
				return nil, &LoadError{Module: name, Op: "remove", Err: err}
			}
			r.reopen()
			r.state, r.wanted = Removing, nil
			s.pending++
			return r, nil
		}
		done := r.wait()
		s.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
		}
		s.mu.Lock()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// foreign makes the record of a module that nobody has asked for. The kernel
// knows whether it has it.
func (s *Scheduler) foreign(name string) *record {
	r := presentRecord(name)
	if m, ok := s.catalog.Load().index.Module(name); ok && m.Builtin {
		r.state = Builtin
	}
	s.table[name] = r
	return r
}

// removable tells why r cannot be removed, as far as the table knows. A user
// that is not in the kernel yet is one for the table alone.
func (s *Scheduler) removable(r *record) error {
	switch r.state {
	case Live:
	case Builtin:
		return ErrBuiltin
	default:
		return ErrNotLoaded
	}
	for u := range s.records() {
		if !u.state.Ended() && u.state != Removing && slices.Contains(u.mod.Deps, r.mod.Name) {
			return &usedError{u.mod.Name}
		}
	}
	return nil
}

// taken enters the kernel's answer to a removal.
func (s *Scheduler) taken(r *record, err error) {
	if err != nil && !errors.Is(err, unix.ENOENT) {
		r.conclude(Live, nil)
		s.release(r, true)
		s.less()
		return
	}
	r.state = Removed
	if err == nil {
		s.count.Removed++
	}
	if r.wanted != nil && !s.draining {
		s.revive(r, *r.wanted)
		s.enterSoft()
		s.breakCircles()
	} else {
		r.conclude(Removed, nil)
		r.err = &LoadError{Module: r.mod.Name, Op: "wait", Err: ErrNotLoaded}
		s.release(r, false)
		r.finished = time.Now()
		s.ended = append(s.ended, r)
	}
	s.less()
}

// usedError is ErrInUse with the name of a user.
type usedError struct{ by string }

func (e *usedError) Error() string        { return "in use by " + e.by }
func (e *usedError) Is(target error) bool { return target == ErrInUse }

// removalError makes the kernel's answer to delete_module(2) an error of ours.
func removalError(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT):
		err = ErrNotLoaded
	case errors.Is(err, unix.EWOULDBLOCK), errors.Is(err, unix.EBUSY):
		err = ErrInUse
	}
	return &LoadError{Module: name, Op: "remove", Err: err}
}
