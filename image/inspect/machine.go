package inspect

import (
	"maps"
	"slices"
	"strings"

	"hapax/image/profile"
	"hapax/image/resolve"
	"hapax/modload/modindex"
)

// A use is a module of the image that the machine loads.
type use struct {
	module modindex.Module
	file   *File
	why    string
}

// machine finds out what becomes of each device and each need of the machine.
func (c *check) machine() error {
	if c.target.Machine == nil {
		return nil
	}
	p := c.target.Machine
	usual, err := c.usual(p)
	if err != nil {
		return err
	}
	d := &Devices{Total: len(p.Modaliases), Left: []LeftOut{}, Unknown: []string{}}
	left := map[string]*LeftOut{}
	for _, alias := range p.Modaliases {
		c.device(alias, d, left)
	}
	missing := map[string]bool{}
	for _, n := range p.Needs {
		c.need(n, missing)
	}
	rooted := slices.ContainsFunc(p.Needs, func(n profile.Need) bool { return strings.HasPrefix(n.For, "the root") })
	for _, name := range slices.Sorted(maps.Keys(left)) {
		l := left[name]
		_, l.Usual = usual[name]
		slices.Sort(l.Aliases)
		d.Left = append(d.Left, *l)
		delete(usual, name)
		if !missing[name] {
			c.leftOut(l, rooted)
		}
	}
	c.report.Devices = d
	for _, name := range slices.Sorted(maps.Keys(usual)) {
		if c.modules[name] == nil && !missing[name] && !c.listed(name) {
			c.report.find(Note, "need", name, "images for this machine have it (%s), this one does not", usual[name])
		}
	}
	return nil
}

// listed reports whether the index of the image has a module: index has said already what is wrong with one of these.
func (c *check) listed(name string) bool {
	if c.image == nil {
		return false
	}
	_, ok := c.image.Module(name)
	return ok
}

// device finds out what becomes of one alias.
func (c *check) device(alias string, d *Devices, left map[string]*LeftOut) {
	served, builtin, barred := false, false, false
	var lacking []string
	consider := func(name string, m modindex.Module, ok bool) {
		switch {
		case ok && m.Builtin:
			builtin = true
		case c.take(name, "device "+alias):
			served = true
		default:
			lacking = append(lacking, name)
		}
	}
	if c.image != nil {
		for _, name := range c.image.view.Lookup(alias).Names {
			if c.image.config.Blacklisted(name) {
				c.blacklisted(name, alias)
				barred = true
				continue
			}
			m, ok := c.image.view.Module(name)
			consider(name, m, ok)
		}
		if c.image.missing != nil {
			lacking = append(lacking, c.image.missing.Lookup(alias)...)
		}
	}
	if c.whole != nil && !served && !barred {
		for _, name := range c.whole.Lookup(alias).Names {
			m, ok := c.whole.Module(name)
			consider(name, m, ok)
		}
	}
	switch {
	case served:
		d.Served++
	case builtin:
		d.Builtin++
	case barred:
		d.Barred++
	case len(lacking) == 0:
		d.Unknown = append(d.Unknown, alias)
	default:
		for _, name := range lacking {
			if left[name] == nil {
				left[name] = &LeftOut{Module: name}
			}
			if l := left[name]; !slices.Contains(l.Aliases, alias) {
				l.Aliases = append(l.Aliases, alias)
			}
		}
	}
}

// blacklisted notes that the image keeps a device from loading a module.
func (c *check) blacklisted(name, alias string) {
	same := func(f Finding) bool { return f.Kind == "module" && f.Subject == name }
	if !slices.ContainsFunc(c.report.Findings, same) {
		c.report.find(Note, "module", name, "blacklisted in the image, so device %s does not load it", alias)
	}
}

// take notes that the machine loads a module with all that it needs, and reports whether the image has it.
func (c *check) take(name, why string) bool {
	name = modindex.Normalize(name)
	if c.use[name] != nil {
		return true
	}
	if c.image == nil {
		return false
	}
	m, ok := c.image.view.Module(name)
	if !ok || m.Builtin {
		return ok
	}
	f, ok := c.tree.moduleFile(c.image.dir, m)
	if !ok {
		return false
	}
	c.use[name] = &use{m, f, why}
	if reason, denied := c.image.config.Denied(name); denied {
		level := Warning
		if strings.HasPrefix(why, "the root") {
			level = Error
		}
		reason = strings.TrimPrefix(reason, c.image.temp+"/config")
		c.report.find(level, "module", name, "the image denies it (%s), although it would serve: %s", reason, why)
	}
	for _, dep := range m.Deps { // index has reported those that are not there
		c.take(dep, "needed by "+name)
	}
	for _, query := range slices.Concat(m.Pre, m.Post) {
		for _, soft := range c.image.view.Lookup(query).Names {
			c.take(soft, "softdep of "+name)
		}
	}
	return true
}

// need finds out whether the image has one of the modules that the machine needs whatever its devices say.
func (c *check) need(n profile.Need, missing map[string]bool) {
	var found bool
	if c.image != nil {
		for _, name := range c.image.view.Lookup(n.Module).Names {
			found = c.take(name, n.For) || found
		}
	}
	if found {
		return
	}
	var lacking []string
	if c.whole != nil {
		for _, name := range c.whole.Lookup(n.Module).Names {
			m, ok := c.whole.Module(name)
			if ok && m.Builtin || c.take(name, n.For) {
				return
			}
			lacking = append(lacking, name)
		}
	}
	if len(lacking) == 0 {
		// Without the whole tree, nobody knows whether a file system is built in: there is no alias for it then. And a
		// profile names every kind of keyboard, whatever the kernel has.
		level := Note
		if needLevel(n) == Error && (c.whole != nil || c.image == nil || c.image.missing != nil) {
			level = Warning
		}
		c.report.find(level, "need", n.Module, "for %s: neither the image nor the kernel is known to have it", n.For)
		return
	}
	for _, name := range lacking {
		if missing[name] {
			continue
		}
		missing[name] = true
		c.report.find(needLevel(n), "need", name, "not in the image, for %s: add it with --modules %s", n.For, name)
	}
}

// needLevel tells how bad it is that a need is not there. A profile names all targets of device mapper that volumes may use,
// and keyboards that may be plugged in.
func needLevel(n profile.Need) Level {
	sure := !strings.HasPrefix(n.Module, "dm_") || slices.Contains([]string{"dm_mod", "dm_crypt", "dm_multipath"}, n.Module)
	if sure && (strings.HasPrefix(n.For, "the root") || strings.HasPrefix(n.For, "/usr")) {
		return Error
	}
	return Warning
}

// leftOut reports a module that devices would take. If the profile does not tell what the root lies on, it may be any of them.
func (c *check) leftOut(l *LeftOut, rooted bool) {
	level, remedy := Note, ""
	switch {
	case l.Usual && !rooted:
		level, remedy = Error, ": it may be what the root lies on; add it with --modules "+l.Module
	case l.Usual || c.whole == nil && !rooted:
		level, remedy = Warning, ": add it with --modules "+l.Module
	}
	c.report.find(level, "device", l.Module, "not in the image, would drive %s, %s%s", plural(len(l.Aliases), "device"), l.Aliases[0], remedy)
}

// usual returns the modules that an image for this machine has, with the reasons, as `hapax build --mode profile` selects
// them. Without the whole tree nobody knows.
func (c *check) usual(p *profile.Profile) (map[string]string, error) {
	if c.whole == nil {
		return nil, nil
	}
	m := resolve.Machine{Name: c.target.Name, Modaliases: p.Modaliases}
	for _, n := range p.Needs {
		m.Needs = append(m.Needs, resolve.Need{Module: n.Module, For: n.For})
	}
	rules, err := resolve.Machines(c.whole, nil, []resolve.Machine{m})
	if err != nil {
		return nil, err
	}
	choices, err := resolve.Choose(c.whole, resolve.Request{Rules: rules})
	if err != nil {
		return nil, err
	}
	usual := map[string]string{}
	for _, choice := range choices {
		usual[choice.Name] = choice.Why
	}
	return usual, nil
}
