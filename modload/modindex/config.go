package modindex

import (
	"cmp"
	"slices"
	"strings"
)

// A Config holds what an administrator says about modules, in modprobe.d(5)
// files and on the kernel command line. ReadConfig reads both, ParseCmdline the
// second alone. It is immutable and may be used by several goroutines; a nil
// *Config says nothing about any module. Every method takes names in either spelling.
//
// Most of it changes what an Index answers: Index.With puts the two together.
type Config struct {
	aliases   rules[string] // pattern -> module
	options   map[string][]option
	install   rules[string] // command
	remove    rules[string]
	softdeps  rules[softdep]
	weakdeps  rules[[]string]
	blacklist map[string]bool
	deny      rules[string] // what says so
	kernel    string        // module_blacklist=, as the kernel keeps it

	lines   int // read so far, which is the place of the last one
	indexed int // the first place behind that of modules.softdep
}

// An option is one line of parameters, filed under the name of a module or an alias.
type option struct {
	place int
	text  string
}

func newConfig() *Config {
	return &Config{options: map[string][]option{}, blacklist: map[string]bool{}}
}

// Options returns the parameters for the module as finit_module(2) takes them:
// all lines about the module itself, whoever it is loaded for, and about the
// aliases that it was reached by, joined by a space in the order in which they
// were read, the kernel command line last; "" if there are none. An alias
// is the query, or the pattern of an alias line: View.Options knows which.
// Quotes are the kernel's, and so is the judgment: it reports a parameter that
// is unknown and refuses the module for a bad value.
func (c *Config) Options(name string, aliases ...string) string {
	if c == nil || len(c.options) == 0 {
		return ""
	}
	var list []option
	for _, key := range append([]string{name}, aliases...) {
		for _, o := range c.options[Normalize(key)] {
			// An alias may be the name. (There are few: sorting them all would cost 12 KB of /init.)
			i, there := slices.BinarySearchFunc(list, o.place, func(a option, place int) int { return cmp.Compare(a.place, place) })
			if !there {
				list = slices.Insert(list, i, o)
			}
		}
	}
	texts := make([]string, len(list))
	for i, o := range list {
		texts[i] = o.text
	}
	return strings.Join(texts, " ")
}

// Blacklisted reports whether a blacklist line or modprobe.blacklist= names the
// module. By modprobe(8)'s rules that stops requests by alias, not by name, and
// not as a dependency. What is to keep a module out in every case is Denied.
func (c *Config) Blacklisted(name string) bool {
	return c != nil && c.blacklist[Normalize(name)]
}

// Denied reports whether the module must not be loaded at all, whoever asks:
// a device, a name, a dependant, or the kernel. A module that needs it cannot be
// loaded either. The reason says where that is written: "/etc/modprobe.d/a.conf:3"
// for a "deny MODULE..." line, hapax.deny=, or module_blacklist=.
func (c *Config) Denied(name string) (reason string, denied bool) {
	if c == nil {
		return "", false
	}
	if reason, denied = c.deny.first([]byte(Normalize(name))); denied {
		return reason, true
	}
	if c.KernelDenied(name) {
		return "module_blacklist= on the kernel command line", true
	}
	return "", false
}

// KernelDenied reports whether the kernel itself refuses the module because of
// module_blacklist=. It compares like the kernel: byte by byte with the real
// name, so "foo-bar" denies nothing, and the last occurrence of the key counts.
func (c *Config) KernelDenied(name string) bool {
	if c == nil {
		return false
	}
	for rest, more := c.kernel, c.kernel != ""; more; {
		var item string
		if item, rest, more = strings.Cut(rest, ","); item == name {
			return name != ""
		}
	}
	return false
}

// Aliases returns the modules that alias lines give for the query, each once, in
// the order of the lines. They are names, not looked up again.
func (c *Config) Aliases(query string) []string {
	return c.aliased([]byte(Normalize(query)))
}

// aliased is Aliases for a normalised query. It allocates nothing if there is no such line.
func (c *Config) aliased(query []byte) (names []string) {
	if c == nil {
		return nil
	}
	for line := range c.aliases.about(query) {
		if !slices.Contains(names, line.value) {
			names = append(names, line.value)
		}
	}
	return names
}

// commanded reports whether an install or a remove line is about exactly that name.
func (c *Config) commanded(name []byte) bool {
	if c == nil {
		return false
	}
	_, install := c.install.named(name)
	_, remove := c.remove.named(name)
	return install || remove
}

// Install returns the command that an install line has run instead of loading
// the module, that of the first line which covers the name; "" if none does. It
// is for sh -c, after ExpandInstall. Module.Install has it unless soft
// dependencies overrule it.
func (c *Config) Install(name string) string {
	if c == nil {
		return ""
	}
	command, _ := c.install.first([]byte(Normalize(name)))
	return command
}

// Remove returns the command that a remove line has run instead of removing the module, as Install does.
func (c *Config) Remove(name string) string {
	if c == nil {
		return ""
	}
	command, _ := c.remove.first([]byte(Normalize(name)))
	return command
}

// ExpandInstall returns the command with the module's parameters in the places
// of $CMDLINE_OPTS. They go into the command as they are, as modprobe(8) does it.
func ExpandInstall(command, options string) string {
	return strings.ReplaceAll(command, "$CMDLINE_OPTS", options)
}

// Softdeps returns what softdep lines ask for before and after the module:
// queries for Lookup, all lines together, each query once. What modules.softdep
// says is not among them; View.Module has both.
func (c *Config) Softdeps(name string) (pre, post []string) {
	if c == nil {
		return nil, nil
	}
	return softdeps(&c.softdeps, Normalize(name))
}

// mergeSoftdeps is Softdeps for a normalised name, with the lines of modules.softdep in their place.
func (c *Config) mergeSoftdeps(index *rules[softdep], name string) (pre, post []string) {
	var all softdep
	key := []byte(name)
	for line := range c.softdeps.about(key) {
		if line.place < c.indexed {
			all.add(line.value)
		}
	}
	for line := range index.about(key) {
		all.add(line.value)
	}
	for line := range c.softdeps.about(key) {
		if line.place >= c.indexed {
			all.add(line.value)
		}
	}
	return all.pre, all.post
}

// Weakdeps returns what weakdep lines list for the module, each query once.
// Nothing loads them for its sake; a builder may put them into an image.
func (c *Config) Weakdeps(name string) (queries []string) {
	if c == nil {
		return nil
	}
	for line := range c.weakdeps.about([]byte(Normalize(name))) {
		queries = appendSome(queries, line.value)
	}
	return queries
}
