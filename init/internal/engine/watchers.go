package engine

import (
	"context"
	"sync"

	"hapax/modload"
)

// watchers are those who want to know of every module that ends. One that does
// not keep up misses some.
type watchers struct {
	mu  sync.Mutex
	all map[chan modload.Module]struct{}
}

// watcherLag is how many modules a watcher may be behind.
const watcherLag = 256

func (w *watchers) add(ctx context.Context) <-chan modload.Module {
	c := make(chan modload.Module, watcherLag)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[chan modload.Module]struct{}{}
	}
	w.all[c] = struct{}{}
	context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all, c)
		close(c)
	})
	return c
}

func (w *watchers) tell(m modload.Module) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.all {
		select {
		case c <- m:
		default:
		}
	}
}
