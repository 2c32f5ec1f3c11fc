package modindex

// A View is an Index as a Config lets it appear: what libkmod answers when it
// has read both. Like the two it may be used by several goroutines at once. It
// takes the place of the Index for whoever looks up and loads modules; what a
// Config forbids is the business of that one, which asks Config.Blacklisted and
// Config.Denied.
type View struct {
	x *Index
	c *Config
}

// With returns the Index as c, which may be nil, lets it appear.
func (x *Index) With(c *Config) *View {
	if c == nil {
		c = new(Config)
	}
	return &View{x, c}
}

// Lookup is Index.Lookup with the configuration in libkmod's places: alias lines
// answer before everything else, and a name that only an install or a remove
// line knows answers behind modules and symbols and before the aliases of modules.
// An alias line may name what no Module is; to load that is an error.
func (v *View) Lookup(query string) Hits { return v.x.lookup(query, v.c) }

// Module is Index.Module with the soft dependencies of both, as one list, and
// with the command of an install line. As with libkmod, soft dependencies
// overrule the command if they stand for any module; and a built-in module,
// which is there, is never installed. A name without a module that an install
// line covers is one too, without a path.
func (v *View) Module(name string) (Module, bool) {
	m, ok := v.x.module(name)
	if m.Builtin {
		return m, ok
	}
	if !ok {
		m.Name = Normalize(name)
		if m.Install, ok = v.c.install.named([]byte(m.Name)); !ok {
			m.Install, ok = v.c.install.first([]byte(m.Name))
		}
	} else {
		m.Install = v.c.Install(m.Name)
	}
	if !ok {
		return m, false
	}
	m.Pre, m.Post = v.c.mergeSoftdeps(v.x.softdeps(), m.Name)
	if m.Install != "" && (v.answers(m.Pre) || v.answers(m.Post)) {
		m.Install = ""
	}
	return m, true
}

// answers reports whether one of the queries stands for anything.
func (v *View) answers(queries []string) bool {
	for _, q := range queries {
		if len(v.Lookup(q).Names) > 0 {
			return true
		}
	}
	return false
}

// LoadOrder is Index.LoadOrder with the configuration. For a module with an
// Install command, the command takes the place of the module; what the module
// depends on is loaded before it all the same. What is denied is listed too.
func (v *View) LoadOrder(name string) []Module { return loadOrder(v, name, "") }

// LoadOrderFor is LoadOrder for a module that query stands for. It differs only
// if soft dependencies lead back to where they began: to libkmod, a module
// reached by an alias and the same one by its name are two.
func (v *View) LoadOrderFor(name, query string) []Module {
	alias := ""
	if v.Lookup(query).ByAlias {
		alias = v.alias(name, query)
	}
	return loadOrder(v, name, alias)
}

// Options returns the parameters for a module that query stands for, as
// Config.Options does: those of the module, and those of the alias it was reached
// by. That is the query itself or, if an alias line answered it, what stands there
// as the alias, pattern or not. For a module that is loaded as a dependency of
// another, query is "".
func (v *View) Options(name, query string) string {
	if query == "" {
		return v.c.Options(name)
	}
	return v.c.Options(name, v.alias(name, query))
}

// alias is Index.alias with the configuration: if alias lines answer the query,
// the pattern of the first that names the module, and "" if none does.
func (v *View) alias(name, query string) string {
	alias := Normalize(query)
	for line := range v.c.aliases.about([]byte(alias)) {
		if alias = ""; line.value == Normalize(name) {
			return line.pattern
		}
	}
	return alias
}

// Weakdeps is Index.Weakdeps with the weakdep lines of the configuration, which come first.
func (v *View) Weakdeps(name string) []string {
	return appendNew(v.c.Weakdeps(name), v.x.Weakdeps(name))
}
