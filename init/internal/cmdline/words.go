package cmdline

import "strings"

// A word is one parameter of the command line.
type word struct {
	key      string // '-' replaced by '_'
	value    string
	hasValue bool // "key=" has one, "key" has none
}

// split cuts raw into words as next_arg in the kernel's lib/cmdline.c does and stops at "--", behind
// which the words belong to init. Like any C string the line ends at the first NUL.
//
// The kernel also takes the byte 0xA0 for a space, which would cut UTF-8 letters such as "à" in two;
// here only the six ASCII spaces separate words.
func split(raw string) []word {
	raw, _, _ = strings.Cut(raw, "\x00")
	var words []word
	for {
		raw = strings.TrimLeft(raw, spaces)
		if raw == "" {
			return words
		}
		var w word
		w, raw = next(raw)
		if w.key == "--" && !w.hasValue {
			return words
		}
		w.key = normalize(w.key)
		words = append(words, w)
	}
}

const spaces = " \t\n\v\f\r"

// next reads the word at the start of s, which is not empty and not a space. A quote anywhere toggles
// quoting, and there is no escape; only a quote that opens the word or its value and the one that ends
// the word are removed. The key is as written. The '=' that splits is the first one that is not the first byte.
func next(s string) (w word, rest string) {
	quoted := s[0] == '"'
	if quoted {
		s = s[1:]
	}
	equals, end, inQuote := 0, len(s), quoted
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !inQuote && strings.IndexByte(spaces, c) >= 0 {
			end = i
			break
		}
		if c == '=' && equals == 0 {
			equals = i
		}
		if c == '"' {
			inQuote = !inQuote
		}
	}
	arg, rest := s[:end], s[end:]

	if equals == 0 {
		if quoted {
			arg = strings.TrimSuffix(arg, `"`)
		}
		return word{key: arg}, rest
	}
	value := arg[equals+1:]
	opened := strings.HasPrefix(value, `"`)
	if opened {
		value = value[1:]
	}
	if opened || quoted {
		value = strings.TrimSuffix(value, `"`)
	}
	return word{key: arg[:equals], value: value, hasValue: true}, rest
}

// normalize gives the form of key under which it is compared: to the kernel "rd.modules-load" and
// "rd.modules_load" are one key.
func normalize(key string) string { return strings.ReplaceAll(key, "-", "_") }
