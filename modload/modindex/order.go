package modindex

// LoadOrder returns what modprobe(8) goes through to load one module, in its
// order and each module once: before each of the hard dependencies, and before
// the module itself, what its pre: line stands for, and behind it what its
// post: line stands for, all of them with their own dependencies. Built-in modules are listed
// where they come up. An unknown name gives nil.
//
// It is what a builder prints and puts into an image. A scheduler has no use
// for it: modules that do not need each other may load at the same time.
func (x *Index) LoadOrder(name string) []Module { return loadOrder(x, name, "") }

// An asked is what answers about modules: an Index, or a View of one.
type asked interface {
	Lookup(query string) Hits
	Module(name string) (Module, bool)
	alias(name, query string) string
}

// alias returns the alias under which the query reached the module, if it was by one.
func (x *Index) alias(name, query string) string { return Normalize(query) }

// loadOrder is LoadOrder with the answers of x, for a module that was reached
// by the alias, which is "" if it was by name.
func loadOrder(x asked, name, alias string) []Module {
	o := newOrdering(x)
	o.enter(name, alias)
	return o.list
}

// An ordering is the state of one LoadOrder. A module is entered once with its
// dependencies, which ends every loop of soft dependencies, but may come up
// more often as a dependency.
type ordering struct {
	x       asked
	modules map[string]*Module // what x said, nil if it knows none
	entered map[entrance]bool
	listed  map[string]bool
	list    []Module
	budget  int // of steps that are left
}

func newOrdering(x asked) *ordering {
	return &ordering{
		x:       x,
		modules: map[string]*Module{},
		entered: map[entrance]bool{},
		listed:  map[string]bool{},
		budget:  maxSteps,
	}
}

// maxSteps bounds what one ordering looks up, finds and goes through, and with
// that its depth, its time and its memory. The modules of a kernel take
// a few hundred at most; beyond this a configuration or an index means harm, and
// soft dependencies are not followed any further.
const maxSteps = 1 << 15

// An entrance is a module and the alias it was asked for by, "" if by name. To
// libkmod these are modules of their own, and in a loop that shows in the order.
type entrance struct{ name, alias string }

// module is asked.Module, for each name once: a module can come up often.
func (o *ordering) module(name string) *Module {
	m, asked := o.modules[name]
	if !asked {
		if known, ok := o.x.Module(name); ok {
			m = &known
		}
		o.modules[name] = m
	}
	return m
}

// enter lists a module with all that it needs, if there is one.
func (o *ordering) enter(name, alias string) {
	m := o.module(name)
	if m == nil || o.entered[entrance{m.Name, alias}] {
		return
	}
	if o.budget -= 1 + len(m.Deps); o.budget < 0 && len(o.list) > 0 {
		return
	}
	o.entered[entrance{m.Name, alias}] = true
	for _, name := range m.Deps {
		if dep := o.module(name); dep != nil {
			o.surround(dep)
		}
	}
	o.surround(m)
}

// surround lists a module between its soft dependencies. One that is listed may
// still be in the midst of them, and come up as a dependency of a post: module:
// the rest of its own go before that one, as with libkmod.
func (o *ordering) surround(m *Module) {
	o.ask(m.Pre)
	if !o.listed[m.Name] {
		o.listed[m.Name] = true
		o.list = append(o.list, *m)
	}
	o.ask(m.Post)
}

func (o *ordering) ask(queries []string) {
	for _, q := range queries {
		if o.budget < 0 {
			return
		}
		hits := o.x.Lookup(q)
		o.budget -= 1 + len(hits.Names)
		for _, name := range hits.Names {
			alias := ""
			if hits.ByAlias {
				alias = o.x.alias(name, q)
			}
			o.enter(name, alias)
		}
	}
}
