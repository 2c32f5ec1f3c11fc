package modindex

import "strings"

// A Config holds what an administrator says about modules. ParseCmdline fills
// it from the kernel command line. It is immutable and may be used by several
// goroutines; a nil *Config says nothing about any module.
type Config struct {
	options   map[string][]string // by module name, in the order given
	blacklist map[string]bool     // modprobe.blacklist=, normalised
	denied    string              // module_blacklist=, as the kernel keeps it
}

// Options returns the parameters for the module as finit_module(2) takes them,
// all of its options joined by a space in the order given; "" if there are none.
// The kernel reports an unknown one and refuses the module for a bad value.
func (c *Config) Options(name string) string {
	if c == nil {
		return ""
	}
	return strings.Join(c.options[Normalize(name)], " ")
}

// Blacklisted reports whether modprobe.blacklist= names the module. By modprobe(8)'s
// rules that stops requests by alias, not by name, and not as a dependency.
func (c *Config) Blacklisted(name string) bool {
	return c != nil && c.blacklist[Normalize(name)]
}

// KernelDenied reports whether the kernel itself refuses the module because of
// module_blacklist=. It compares like the kernel: byte by byte with the real
// name, so "foo-bar" denies nothing, and the last occurrence of the key counts.
func (c *Config) KernelDenied(name string) bool {
	if c == nil {
		return false
	}
	for rest, more := c.denied, c.denied != ""; more; {
		var item string
		if item, rest, more = strings.Cut(rest, ","); item == name {
			return name != ""
		}
	}
	return false
}

// ParseCmdline reads module parameters and blacklists from the kernel command
// line as /proc/cmdline has it. For "module.parameter" it follows libkmod
// (kmod_config_parse_kcmdline), to which "--" means nothing; for
// module_blacklist= it follows the kernel, which stops there. Words that are
// neither are skipped: most of the line is meant for others.
func ParseCmdline(raw string) *Config {
	c := &Config{options: map[string][]string{}, blacklist: map[string]bool{}}
	for word, rest := cutWord(raw); word != "" || rest != ""; word, rest = cutWord(rest) {
		module, param, ok := splitParam(word)
		if !ok {
			continue
		}
		if list, is := strings.CutPrefix(param, "blacklist="); is && module == "modprobe" {
			for name := range strings.SplitSeq(unquote(list), ",") {
				c.blacklist[Normalize(name)] = name != ""
			}
			continue
		}
		if balanced(module) && module != "" && param != "" {
			module = Normalize(module)
			c.options[module] = append(c.options[module], param)
		}
	}
	c.denied = moduleBlacklist(raw)
	return c
}

// isSpace reports what both the kernel and libkmod take as the end of a word.
func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// cutWord returns the first word of s, quotes and all, and what follows it. A
// quote opens or closes wherever it stands, and white space ends no word inside.
func cutWord(s string) (word, rest string) {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	quoted := false
	for i := range len(s) {
		if s[i] == '"' {
			quoted = !quoted
		}
		if isSpace(s[i]) && !quoted {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// splitParam splits "module.param" and "module.param=value". A word that is
// quoted as a whole, as grub writes it, gets its quotes around the value.
func splitParam(word string) (module, param string, ok bool) {
	inner, whole := strings.CutPrefix(word, `"`)
	dot := strings.IndexByte(inner, '.')
	if dot < 0 {
		return "", "", false
	}
	module, param = inner[:dot], inner[dot+1:]
	key, value, valued := strings.Cut(param, "=")
	// A quote, a blank, a second dot or an '=' before its time: not for a module.
	if strings.ContainsAny(module, "\"= \t\n\v\f\r") || strings.ContainsAny(key, "\". \t\n\v\f\r") {
		return "", "", false
	}
	if strings.Count(word, `"`)%2 != 0 {
		return "", "", false // still open at the end of the line
	}
	if whole {
		if !valued {
			return "", "", false
		}
		return module, key + `="` + value, true
	}
	return module, param, true
}

// moduleBlacklist returns what the kernel's parse_args gives module_blacklist=:
// '-' equals '_' in the key, quotes around the value are stripped, "--" ends
// the kernel's part, a value over 1024 bytes is refused, the last one wins.
func moduleBlacklist(raw string) string {
	const maxCharp = 1024
	denied := ""
	for word, rest := cutWord(raw); word != "" || rest != ""; word, rest = cutWord(rest) {
		if word == "--" {
			break
		}
		key, value, ok := strings.Cut(unquote(word), "=")
		if !ok || strings.ReplaceAll(key, "-", "_") != "module_blacklist" {
			continue
		}
		if value = unquote(value); len(value) <= maxCharp {
			denied = value
		}
	}
	return denied
}

// unquote strips a quote at the start of s, and then one at its end.
func unquote(s string) string {
	if inner, quoted := strings.CutPrefix(s, `"`); quoted {
		return strings.TrimSuffix(inner, `"`)
	}
	return s
}
