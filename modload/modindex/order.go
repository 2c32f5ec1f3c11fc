package modindex

// LoadOrder returns what modprobe(8) goes through to load one module, in its
// order and each module once: before each of the hard dependencies, and before
// the module itself, what its pre: line stands for, and behind it what its
// post: line stands for, all of them with their own dependencies. Built-in modules are listed
// where they come up. An unknown name gives nil.
//
// It is what a builder prints and puts into an image. A scheduler has no use
// for it: modules that do not need each other may load at the same time.
func (x *Index) LoadOrder(name string) []Module {
	m, ok := x.Module(name)
	if !ok {
		return nil
	}
	o := ordering{x: x, entered: map[string]bool{}, listed: map[string]bool{}}
	o.enter(m)
	return o.list
}

// An ordering is the state of one LoadOrder. A module is entered once with its
// dependencies, which ends every loop of soft dependencies, but may come up
// more often as a dependency.
type ordering struct {
	x               *Index
	entered, listed map[string]bool
	list            []Module
}

// enter lists a module with all that it needs.
func (o *ordering) enter(m Module) {
	if o.entered[m.Name] {
		return
	}
	o.entered[m.Name] = true
	for _, name := range m.Deps {
		if dep, ok := o.x.Module(name); ok {
			o.surround(dep)
		}
	}
	o.surround(m)
}

// surround lists a module between its soft dependencies.
func (o *ordering) surround(m Module) {
	if o.listed[m.Name] {
		return
	}
	o.ask(m.Pre)
	if !o.listed[m.Name] {
		o.listed[m.Name] = true
		o.list = append(o.list, m)
	}
	o.ask(m.Post)
}

func (o *ordering) ask(queries []string) {
	for _, q := range queries {
		for _, name := range o.x.Lookup(q).Names {
			if m, ok := o.x.Module(name); ok {
				o.enter(m)
			}
		}
	}
}
