package rootdev

import (
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf8"
)

// encodeLink spells a value of the device as libblkid's blkid_encode_string does for the names of links:
// letters, digits, #+-.:=@_ and valid UTF-8 stay, every other byte becomes \xNN, '/' and '\' among them.
func encodeLink(s string) string {
	var b []byte
	for i := 0; i < len(s); {
		if n := runeLen(s[i:], 0xffff); n > 1 {
			b = append(b, s[i:i+n]...)
			i += n
			continue
		}
		if plain(s[i], "") {
			b = append(b, s[i])
		} else {
			b = hex.AppendEncode(append(b, `\x`...), []byte{s[i]})
		}
		i++
	}
	return string(b)
}

// decodeLink undoes the \xNN of encodeLink. What is no such sequence stays.
func decodeLink(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if strings.HasPrefix(s[i:], `\x`) && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// replaceChars is systemd's udev_replace_chars: what is not plain, in allow, valid UTF-8 or the start of an
// \xNN becomes '_', and white space a blank where allow has one.
func replaceChars(s, allow string) string {
	b := []byte(s)
	for i := 0; i < len(b); {
		if plain(b[i], allow) {
			i++
			continue
		}
		if strings.HasPrefix(s[i:], `\x`) {
			i += 2
			continue
		}
		if n := runeLen(s[i:], 0xfffe); n > 1 {
			i += n
			continue
		}
		if strings.IndexByte(spaces, b[i]) >= 0 && strings.Contains(allow, " ") {
			b[i] = ' '
		} else {
			b[i] = '_'
		}
		i++
	}
	return string(b)
}

// replaceSpace is systemd's udev_replace_whitespace: it drops white space at both ends of what comes before
// a NUL, and makes one '_' of each run within. No more than most bytes are read or returned.
func replaceSpace(s string, most int) string {
	s = cut([]byte(s[:min(len(s), most)]))
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(spaces, r) }), "_")
}

// plain tells whether c stays as it is in the name of a link, anywhere or because allow has it.
func plain(c byte, allow string) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.IndexByte("#+-.:=@_", c) >= 0 ||
		c != 0 && strings.IndexByte(allow, c) >= 0
}

// runeLen returns the length of the character at the start of s, or 0 if there is none. Not characters are,
// besides what is no UTF-8, U+FDD0 to U+FDEF and those whose low 16 bits have all bits of last: libblkid
// lets the last but one of each plane pass, systemd does not.
func runeLen(s string, last rune) int {
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n <= 1 || r >= 0xfdd0 && r <= 0xfdef || r&last == last {
		return 0
	}
	return n
}
