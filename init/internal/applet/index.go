package applet

import "hapax/modload/modindex"

// A finder is what the applets ask of a module index.
type finder interface {
	Lookup(query string) modindex.Hits
	Module(name string) (modindex.Module, bool)
}

// A planner is a finder that knows the configuration, too.
type planner interface {
	finder
	LoadOrder(name string) []modindex.Module
	Options(name, query string) string
}

// noIndex takes the place of an index that is not there. It knows nothing.
type noIndex struct{}

func (noIndex) Lookup(string) modindex.Hits               { return modindex.Hits{} }
func (noIndex) Module(string) (m modindex.Module, _ bool) { return m, false }
func (noIndex) LoadOrder(string) []modindex.Module        { return nil }
func (noIndex) Options(string, string) string             { return "" }

// openIndex opens the index in a modules folder.
func openIndex(dir string) finder {
	x, err := modindex.Open(dir)
	if err != nil {
		return noIndex{}
	}
	return x
}
