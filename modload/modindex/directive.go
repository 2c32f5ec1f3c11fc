package modindex

import (
	"errors"
	"fmt"
	"iter"
	"strings"
)

// maxConfigLine bounds a line of modprobe.d(5), continuations included. The
// longest that anybody writes are commands, and exec(2) itself stops at twice that.
const maxConfigLine = 64 << 10

// A ConfigError reports a line of a modprobe.d(5) file that was skipped.
type ConfigError struct {
	File string
	Line int // the first one, if the line is continued
	Err  error
}

func (e *ConfigError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

func (e *ConfigError) Unwrap() error { return e.Err }

var (
	errNoModule = errors.New("no module is named")
	errNoTarget = errors.New("nothing follows the name of the module")
	errManyDeps = fmt.Errorf("more than %d words", maxQueries)
	errLongLine = fmt.Errorf("a line of more than %d bytes", maxConfigLine)
)

// parse reads the lines of a file and reports those that it skips.
func (c *Config) parse(file, data string, report func(error)) {
	for number, line := range configLines(data) {
		if err := c.directive(file, number, line); err != nil {
			report(&ConfigError{file, number, err})
		}
	}
}

// directive reads one line. What its error says is the reason why it was
// skipped. Surplus words are ignored, as by libkmod.
func (c *Config) directive(file string, number int, line string) error {
	if len(line) > maxConfigLine {
		return errLongLine
	}
	keyword, words := cutBlank(line)
	name, rest := cutBlank(words)
	c.lines++
	switch keyword {
	case "":
		return nil // blanks alone
	case "include", "config":
		return fmt.Errorf("%s: not supported any more", keyword)
	case "deny":
		return c.denyAll(words, fmt.Sprintf("%s:%d", file, number))
	case "alias", "blacklist", "install", "options", "remove", "softdep", "weakdep":
	default:
		return fmt.Errorf("unknown keyword %.40q", keyword)
	}
	if err := checkName(name); err != nil {
		return fmt.Errorf("%s: %w", keyword, err)
	}
	if rest == "" && keyword != "blacklist" {
		return fmt.Errorf("%s: %w", keyword, errNoTarget)
	}
	return c.add(keyword, Normalize(name), rest)
}

// add files one line about a module or an alias.
func (c *Config) add(keyword, name, rest string) error {
	switch keyword {
	case "blacklist":
		c.blacklist[name] = true
	case "alias":
		module, _ := cutBlank(rest)
		if err := checkName(module); err != nil {
			return fmt.Errorf("alias: %w", err)
		}
		c.aliases.add(c.lines, name, Normalize(module))
	case "options":
		c.addOption(name, strings.ReplaceAll(rest, "\t", " "))
	case "install":
		c.install.add(c.lines, name, rest)
	case "remove":
		c.remove.add(c.lines, name, rest)
	case "softdep", "weakdep":
		words := spaced(rest)
		switch {
		case len(words) > maxQueries:
			return fmt.Errorf("%s: %w", keyword, errManyDeps)
		case keyword == "softdep":
			c.softdeps.add(c.lines, name, parseSoftdep(words))
		default:
			c.weakdeps.add(c.lines, name, words)
		}
	}
	return nil
}

// addOption files parameters under the normalised name of a module or an alias.
func (c *Config) addOption(name, text string) {
	c.options[name] = append(c.options[name], option{c.lines, text})
}

// denyAll files every module of a deny line. One that is misspelt does not
// save the others.
func (c *Config) denyAll(words, reason string) error {
	names := strings.FieldsFunc(words, isBlank)
	if len(names) == 0 {
		return fmt.Errorf("deny: %w", errNoModule)
	}
	var problem error // the last one
	for _, name := range names {
		if err := checkName(name); err != nil {
			problem = fmt.Errorf("deny: %w", err)
			continue
		}
		c.deny.add(c.lines, Normalize(name), reason)
	}
	return problem
}

// checkName refuses what cannot be the name of a module or an alias.
func checkName(name string) error {
	if name == "" {
		return errNoModule
	}
	if !balanced(name) {
		return fmt.Errorf("the brackets of %.80q are not balanced", name)
	}
	return nil
}

// parseSoftdep reads the words behind the module. Those in front of "pre:" and
// "post:" mean nothing; some modules of the kernel have such lines.
func parseSoftdep(words []string) (d softdep) {
	var list *[]string
	for _, word := range words {
		switch {
		case word == "pre:":
			list = &d.pre
		case word == "post:":
			list = &d.post
		case list != nil:
			*list = append(*list, word)
		}
	}
	return d
}

// spaced splits a list of dependencies, where libkmod takes a carriage return for a blank too.
func spaced(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r < 0x80 && isSpace(byte(r)) })
}

// cutBlank returns the first word of s and what stands behind the one blank that ends it.
func cutBlank(s string) (word, rest string) {
	s = strings.TrimLeft(s, " \t")
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}

func isBlank(r rune) bool { return r == ' ' || r == '\t' }

// isGlob reports whether s, as a pattern, may cover anything but itself.
func isGlob(s string) bool { return strings.ContainsAny(s, `*?[\`) }

// configLines yields the lines of a modprobe.d(5) file that are neither empty
// nor comments, each with the number of its first one. A backslash at the end of
// a line joins it with the next one, comments too; in front of any other byte it
// is dropped, and what follows a NUL is not there, both as in libkmod.
func configLines(data string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		for number := 1; data != ""; {
			line, rest, _ := strings.Cut(data, "\n")
			taken := 1
			if strings.IndexByte(line, '\\') >= 0 {
				line, rest, taken = joinLines(data)
			}
			line, _, _ = strings.Cut(line, "\x00")
			if line != "" && line[0] != '#' && !yield(number, line) {
				return
			}
			data = rest
			number += taken
		}
	}
}

// joinLines takes the backslashes out of the first line of data. It returns
// how many lines that took, and what follows them.
func joinLines(data string) (line, rest string, taken int) {
	var b strings.Builder
	taken = 1
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '\n':
			return b.String(), data[i+1:], taken
		case '\\':
			if i++; i == len(data) {
				continue
			}
			if data[i] == '\n' {
				taken++
				continue
			}
		}
		b.WriteByte(data[i])
	}
	return b.String(), "", taken
}
