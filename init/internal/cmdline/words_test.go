package cmdline

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bare and kv make words, so that the table reads like the line it describes.
func bare(key string) word      { return word{key: key} }
func kv(key, value string) word { return word{key: key, value: value, hasValue: true} }
func words(w ...word) []word    { return w }

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, line string
		want       []word
	}{
		{"empty", "", nil},
		{"only spaces", " \t\n\v\f\r ", nil},
		{"words", "quiet root=/dev/vda", words(bare("quiet"), kv("root", "/dev/vda"))},
		{"final newline of /proc/cmdline", "quiet\n", words(bare("quiet"))},
		{"tabs and newlines separate", "a\tb\nc\vd\fe\rg", words(bare("a"), bare("b"), bare("c"), bare("d"), bare("e"), bare("g"))},
		{"no-break space does not", "l=voil\u00e0 b", words(kv("l", "voil\u00e0"), bare("b"))},

		{"quoted value", `a="b c" d`, words(kv("a", "b c"), bare("d"))},
		{"quoted word", `"root=a b" c`, words(kv("root", "a b"), bare("c"))},
		{"quoted bare word", `"a b" c`, words(bare("a b"), bare("c"))},
		{"quotes inside a value stay", `a=b"c d"e f`, words(kv("a", `b"c d"e`), bare("f"))},
		{"quote that ends an unquoted value stays", `a=b"c d"`, words(kv("a", `b"c d"`))},
		{"quote that opens the value but does not end it", `a="b c"d`, words(kv("a", `b c"d`))},
		{"quote behind UUID=", `root=UUID="a b"`, words(kv("root", `UUID="a b"`))},
		{"only one of two final quotes goes", `"a="b""`, words(kv("a", `b"`))},
		{"quoted key", `"a b"=c`, words(kv(`a b"`, "c"))},
		{"apostrophe is a letter", "a=it's root=/dev/vda b", words(kv("a", "it's"), kv("root", "/dev/vda"), bare("b"))},
		{"backslash is a letter", `a=\" b=c`, words(kv("a", `\" b=c`))},

		{"value that never closes", `foo="`, words(kv("foo", ""))},
		{"value that never closes runs to the end", `foo="a b`, words(kv("foo", "a b"))},
		{"lone quote", `"`, words(bare(""))},
		{"two quotes", `""`, words(bare(""))},
		{"quote and spaces", `"  `, words(bare("  "))},
		{"empty value", "a= b", words(kv("a", ""), bare("b"))},
		{"empty quoted value", `a="" b`, words(kv("a", ""), bare("b"))},

		{"the first equals sign splits", "a=b=c", words(kv("a", "b=c"))},
		{"a leading equals sign does not", "=a", words(bare("=a"))},
		{"the second one then does", "=a=b", words(kv("=a", "b"))},
		{"equals alone", "=", words(bare("="))},

		{"hyphen equals underscore in keys only", "rd.modules-load=a-b", words(kv("rd.modules_load", "a-b"))},
		{"order and repeats stay", "console=a x console=b", words(kv("console", "a"), bare("x"), kv("console", "b"))},
		{"double hyphen ends", "a -- b", words(bare("a"))},
		{"quoted double hyphen ends too", `a "--" b`, words(bare("a"))},
		{"double hyphen inside a value does not", "a=-- b", words(kv("a", "--"), bare("b"))},
		{"double hyphen with a value does not", "--=x b", words(kv("__", "x"), bare("b"))},
		{"double underscore does not", "__ -_ b", words(bare("__"), bare("__"), bare("b"))},
		{"triple hyphen does not", "--- b", words(bare("___"), bare("b"))},
		{"NUL ends the line", "a\x00b=c", words(bare("a"))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, split(tt.line), cmp.AllowUnexported(word{})); diff != "" {
				t.Errorf("split(%q) differs (-want +got):\n%s", tt.line, diff)
			}
		})
	}
}

func TestSplitLongLines(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		line string
		want int
	}{
		"4 KiB of one-letter words": {strings.Repeat("a ", 2048), 2048},
		"4 KiB of quotes":           {strings.Repeat(`"`, 4096), 1},
		"4 KiB of equals signs":     {strings.Repeat("=", 4096), 1},
		"4 KiB in one value":        {"a=" + strings.Repeat("b", 4094), 1},
		"4 KiB without a close":     {`a="` + strings.Repeat("b ", 2046), 1},
	} {
		if got := len(split(tt.line)); got != tt.want {
			t.Errorf("%s: %d words, want %d", name, got, tt.want)
		}
	}
}
