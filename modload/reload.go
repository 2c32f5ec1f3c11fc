package modload

import "hapax/modload/modindex"

// A catalog is what the Scheduler asks about modules. It is exchanged as one.
type catalog struct {
	index  Index
	config *modindex.Config
	params func(name, query string) string
}

// newCatalog fills in what may be left out.
func newCatalog(index Index, config *modindex.Config, params func(name, query string) string) *catalog {
	if config == nil {
		config = new(modindex.Config)
	}
	if params == nil {
		params = func(name, _ string) string { return config.Options(name) }
	}
	return &catalog{index, config, params}
}

// Reload exchanges the index and the configuration, as after depmod(8) or an
// edit of modprobe.d(5). The arguments are those of Options. What has failed may
// be asked for again then, and every alias is looked up anew; what is live or
// under way stays as it is.
func (s *Scheduler) Reload(index Index, config *modindex.Config, params func(name, query string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.catalog.Store(newCatalog(index, config, params))
	clear(s.aliases)
	s.generation++
}
