package engine

import (
	"errors"
	"os"
	"slices"
	"sync"

	"hapax/init/internal/report"
	"hapax/modload"
	"hapax/modload/modindex"
)

// unserved keeps the aliases of devices for which the image has no module.
type unserved struct {
	mu   sync.Mutex
	seen map[string]bool
	list []report.Unserved
}

// maxUnserved bounds what a machine full of unknown devices can make us keep.
const maxUnserved = 4096

// add notes an alias; the first device that has it stands for all.
func (u *unserved) add(alias string, o modload.Origin) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.seen == nil {
		u.seen = map[string]bool{}
	}
	if u.seen[alias] || len(u.list) == maxUnserved {
		return
	}
	u.seen[alias] = true
	u.list = append(u.list, report.Unserved{Device: o.By, Alias: alias})
}

// report returns the aliases with the modules that the image was built without
// and that would have served them, as far as dir, the modules folder, tells.
func (u *unserved) report(dir string) ([]report.Unserved, error) {
	u.mu.Lock()
	list := slices.Clone(u.list)
	u.mu.Unlock()
	if len(list) == 0 || dir == "" {
		return list, nil
	}
	missing, err := modindex.OpenMissing(dir)
	if errors.Is(err, os.ErrNotExist) {
		return list, nil
	}
	if err != nil {
		return list, err
	}
	defer missing.Close()
	for i := range list {
		list[i].Modules = missing.Lookup(list[i].Alias)
	}
	return list, missing.Err()
}
