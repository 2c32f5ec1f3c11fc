package applet

import (
	"fmt"
	"strings"
)

// A long is an option with a name. Several may have one code.
type long struct {
	name string
	arg  bool
	code byte
}

// An opt is an option that was given. The code '?' is an error, with its message
// in arg.
type opt struct {
	code byte
	arg  string
}

// A getopt reads arguments as getopt_long(3) of glibc does: options may stand
// behind operands, short ones may be bundled, long ones shortened, and "--" ends
// them. Nothing follows an error.
type getopt struct {
	argv0  string // begins the messages
	shorts string // one letter each, with a ':' behind those that take an argument
	longs  []long
	posix  bool // the first operand ends the options, too

	opts     []opt
	operands []string
}

func (g *getopt) parse(args []string) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			g.operands = append(g.operands, args...)
			return
		case strings.HasPrefix(arg, "--"):
			args = g.long(arg[2:], args)
		case len(arg) > 1 && arg[0] == '-':
			args = g.short(arg[1:], args)
		default:
			g.operands = append(g.operands, arg)
			if g.posix {
				g.operands = append(g.operands, args...)
				return
			}
		}
		if n := len(g.opts); n > 0 && g.opts[n-1].code == '?' {
			return
		}
	}
}

func (g *getopt) add(code byte, arg string) { g.opts = append(g.opts, opt{code, arg}) }

func (g *getopt) fail(format string, args ...any) {
	g.add('?', g.argv0+": "+fmt.Sprintf(format, args...))
}

// short reads a bundle of short options, and what is left of args.
func (g *getopt) short(bundle string, args []string) []string {
	for i := range len(bundle) {
		at := strings.IndexByte(g.shorts, bundle[i])
		switch {
		case at < 0 || bundle[i] == ':':
			g.fail("invalid option -- '%c'", bundle[i])
			return args
		case !strings.HasPrefix(g.shorts[at+1:], ":"):
			g.add(bundle[i], "")
		case i+1 < len(bundle):
			g.add(bundle[i], bundle[i+1:])
			return args
		case len(args) > 0:
			g.add(bundle[i], args[0])
			return args[1:]
		default:
			g.fail("option requires an argument -- '%c'", bundle[i])
			return args
		}
	}
	return args
}

// long reads one long option.
func (g *getopt) long(text string, args []string) []string {
	name, value, given := strings.Cut(text, "=")
	found, others := g.match(name)
	switch {
	case others != "":
		g.fail("option '--%s' is ambiguous; possibilities:%s", text, others)
	case found.name == "":
		g.fail("unrecognized option '--%s'", text)
	case given && !found.arg:
		g.fail("option '--%s' doesn't allow an argument", found.name)
	case !found.arg || given:
		g.add(found.code, value)
	case len(args) > 0:
		g.add(found.code, args[0])
		return args[1:]
	default:
		g.fail("option '--%s' requires an argument", found.name)
	}
	return args
}

// match returns the option that name is, or is the beginning of. If those do
// not all mean the same, it returns the list of them.
func (g *getopt) match(name string) (found long, others string) {
	for _, l := range g.longs {
		switch {
		case l.name == name:
			return l, ""
		case !strings.HasPrefix(l.name, name):
		case found.name == "":
			found = l
		case l.arg != found.arg || l.code != found.code:
			if others == "" {
				others = " '--" + found.name + "'"
			}
			others += " '--" + l.name + "'"
		}
	}
	return found, others
}

// splitOptions reads the value of MODPROBE_OPTIONS: arguments that are separated
// by blanks, of which quotes keep some.
func splitOptions(value string) (args []string) {
	var word []byte
	var quote byte
	some := false
	for i := range len(value) {
		c := value[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, some = c, true
		case quote == 0 && c == ' ':
			if some {
				args = append(args, string(word))
			}
			word, some = word[:0], false
		default:
			word, some = append(word, c), true
		}
	}
	if some {
		args = append(args, string(word))
	}
	return args
}
