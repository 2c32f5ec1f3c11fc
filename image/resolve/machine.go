package resolve

import (
	"slices"

	"hapax/modload/modindex"
)

// A Machine is what the selection for one machine needs to know about it.
type Machine struct {
	Name       string   // for explanations: "this machine", or the file of a profile
	Modaliases []string // of its devices
	Needs      []Need   // what its root, its keyboard and its console need
}

// A Need is a module that a machine needs whatever its devices say.
type Need struct {
	Module string // name or alias, such as "fs-ext4"
	For    string // "the root device"
}

// Machines returns the rules for an image that serves the given machines: of the universal set, all that their devices
// name, and whatever they need. All are optional: another release of the kernel may have built in what was a module.
//
// As in a running system, config (which may be nil) keeps blacklisted modules, and those with an install command, from
// being named by a device.
func Machines(x *modindex.Index, config *modindex.Config, machines []Machine) ([]Rule, error) {
	universal, err := Universal()
	if err != nil {
		return nil, err
	}
	useful, err := Choose(x, Request{Rules: universal, Config: config})
	if err != nil {
		return nil, err
	}
	within := make(map[string]bool, len(useful))
	for _, c := range useful {
		within[c.Name] = true
	}
	var rules []Rule
	seen := map[string]bool{}
	add := func(name, from string) {
		if !seen[name] {
			seen[name] = true
			rules = append(rules, Rule{Name: name, Optional: true, From: from})
		}
	}
	view := x.With(config)
	for _, m := range machines {
		for _, n := range m.Needs {
			for _, name := range slices.Concat([]string{n.Module}, companions(n.Module)) {
				add(name, m.Name+", for "+n.For)
			}
		}
		for _, alias := range m.Modaliases {
			hits := view.Lookup(alias)
			for _, name := range hits.Names {
				if within[name] && !config.Blacklisted(name) && config.Install(name) == "" {
					add(name, m.Name+", device "+short(alias))
				}
			}
		}
	}
	return rules, nil
}

// short cuts what nobody reads to its end, as the alias of a processor with all its features.
func short(alias string) string {
	const enough = 64
	if len(alias) <= enough {
		return alias
	}
	return alias[:enough] + "..."
}

// companions returns the modules that another one asks the kernel for by name while it works, which no dependency tells.
func companions(module string) []string {
	switch modindex.Normalize(module) {
	case "dm_crypt":
		return []string{"xts", "cbc", "ecb", "essiv", "authenc", "hmac", "aes_generic", "sha256_generic", "sha512_generic"}
	case "fs_vfat", "vfat", "fs_msdos":
		return []string{"nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"}
	}
	return nil
}
