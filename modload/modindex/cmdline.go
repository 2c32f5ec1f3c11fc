package modindex

import "strings"

// ParseCmdline reads module parameters and blacklists from the kernel command
// line as /proc/cmdline has it. For "module.parameter" it follows libkmod
// (kmod_config_parse_kcmdline), to which "--" means nothing; for
// module_blacklist= it follows the kernel, which stops there. hapax.deny= takes
// names and patterns, as ReadConfig says. Words that are none of these are
// skipped: most of the line is meant for others.
func ParseCmdline(raw string) *Config {
	c := newConfig()
	c.parseCmdline(raw)
	return c
}

// parseCmdline adds the kernel command line to c.
func (c *Config) parseCmdline(raw string) {
	for word, rest := cutWord(raw); word != "" || rest != ""; word, rest = cutWord(rest) {
		module, param, ok := splitParam(word)
		if !ok {
			continue
		}
		c.lines++
		if list, is := strings.CutPrefix(param, "blacklist="); is && module == "modprobe" {
			for name := range strings.SplitSeq(unquote(list), ",") {
				c.blacklist[Normalize(name)] = name != ""
			}
			continue
		}
		if list, is := strings.CutPrefix(param, "deny="); is && module == "hapax" {
			for name := range strings.SplitSeq(unquote(list), ",") {
				if name != "" {
					c.deny.add(c.lines, Normalize(name), "hapax.deny= on the kernel command line")
				}
			}
			continue
		}
		if balanced(module) && module != "" && param != "" {
			c.addOption(Normalize(module), param)
		}
	}
	c.kernel = moduleBlacklist(raw)
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
