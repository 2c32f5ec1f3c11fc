package modindex

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/tests/need"
)

func TestParseCmdlineOptions(t *testing.T) {
	for _, c := range []struct{ line, module, want string }{
		{"", "m", ""},
		{"m.p=1", "m", "p=1"},
		{"m.p", "m", "p"},
		{"m.p=", "m", "p="},
		{"m.p=1\n", "m", "p=1"},
		{"\tm.p=1 \v m.q=2\r\n", "m", "p=1 q=2"},
		{"m.p=1 n.p=2 m.p=3", "m", "p=1 p=3"},
		{"foo-bar.par-am=1", "foo_bar", "par-am=1"},
		{"foo_bar.p=1", "foo-bar", "p=1"},
		{"m.p=1.5G", "m", "p=1.5G"},
		{"m.p=a=b", "m", "p=a=b"},
		{`m.p="a b"`, "m", `p="a b"`},
		{`m.p="a b"c m.q=1`, "m", `p="a b"c q=1`},
		{`"m.p=a b"`, "m", `p="a b"`},
		{"m.p=1 -- m.q=2", "m", "p=1 q=2"}, // "--" means nothing to libkmod
		// Words for somebody else.
		{"p=1", "p", ""},
		{"a=m.p", "a=m", ""},
		{"m.a.b=1", "m", ""},
		{"ivrs_acpihid[14:00.5]=AMDI0020:0", "ivrs_acpihid[14:00", ""},
		{`x"m.p=1"`, "m", ""},
		{`"m.p q=1" m.r=1`, "m", "r=1"},
		{`"m.p"`, "m", ""},
		{`m."p"=1`, "m", ""},
		{`m.p="a b`, "m", ""}, // not closed
		{"m].p=1", "m]", ""},
		{".p=1", "m", ""},
	} {
		if got := ParseCmdline(c.line).Options(c.module); got != c.want {
			t.Errorf("ParseCmdline(%q).Options(%q) = %q, want %q", c.line, c.module, got, c.want)
		}
	}
}

func TestParseCmdlineBlacklists(t *testing.T) {
	const blacklisted, denied = "blacklisted", "denied"
	for _, c := range []struct {
		line, module string
		want         string
	}{
		{"modprobe.blacklist=a,b", "a", blacklisted},
		{"modprobe.blacklist=a,b", "b", blacklisted},
		{"modprobe.blacklist=a modprobe.blacklist=b", "a", blacklisted}, // they add up
		{"modprobe.blacklist=a-b", "a_b", blacklisted},
		{"modprobe.blacklist=a_b", "a-b", blacklisted},
		{`modprobe.blacklist="a,b"`, "b", blacklisted},
		{`"modprobe.blacklist=a,b"`, "a", blacklisted},
		{"modprobe.blacklist=ab", "a", ""},
		{"modprobe.blacklist=", "", ""},
		{"blacklist=a", "a", ""},
		{"module_blacklist=a,b", "a", denied},
		{"module_blacklist=a,b", "b", denied},
		{"module-blacklist=a", "a", denied},
		{`module_blacklist="a,b"`, "b", denied},
		{`"module_blacklist=a,b"`, "b", denied},
		{"module_blacklist=a module_blacklist=b", "a", ""}, // the last one counts
		{"module_blacklist=a module_blacklist=b", "b", denied},
		{"module_blacklist=a module_blacklist=", "a", ""},
		{"module_blacklist=a module_blacklist", "a", denied}, // the kernel refuses the second
		{"module_blacklist=a module_blacklist=" + strings.Repeat("b", 1025), "a", denied},
		{"module_blacklist=" + strings.Repeat("b", 1024), strings.Repeat("b", 1024), denied},
		{"module_blacklist=x-y", "x_y", ""}, // byte by byte
		{"module_blacklist=x_y", "x-y", ""},
		{"module_blacklist=a,", "", ""},
		{"-- module_blacklist=a", "a", ""},
		{"module_blacklist=a -- module_blacklist=b", "a", denied},
		{"kernel.module_blacklist=a", "a", ""},
	} {
		config := ParseCmdline(c.line)
		if got, want := config.Blacklisted(c.module), c.want == blacklisted; got != want {
			t.Errorf("%.60q: Blacklisted(%.20q) = %v, want %v", c.line, c.module, got, want)
		}
		if got, want := config.KernelDenied(c.module), c.want == denied; got != want {
			t.Errorf("%.60q: KernelDenied(%.20q) = %v, want %v", c.line, c.module, got, want)
		}
	}
}

func TestNilConfig(t *testing.T) {
	var none *Config
	for name, c := range map[string]*Config{"nil": none, "zero": new(Config)} {
		_, denied := c.Denied("m")
		pre, post := c.Softdeps("m")
		if c.Options("m", "al") != "" || c.Blacklisted("m") || c.KernelDenied("m") || denied ||
			c.Aliases("m") != nil || c.Install("m") != "" || c.Remove("m") != "" ||
			pre != nil || post != nil || c.Weakdeps("m") != nil || c.commanded([]byte("m")) {
			t.Errorf("a %s Config says something about a module", name)
		}
	}
}

// randomCmdline returns a line of random words, of which each has something to trip over.
func randomCmdline(rng *rand.Rand) string {
	parts := []string{"m.p=1", "n-o.q=2", "r", "s=1", `m.p="a b"`, `"m.q=c d"`, "m.a.b=1", `"`, `x"y z"`, ".", "=", "--",
		`n_o.r="1"2`, "k.p", `"k.p"`, `k."p"=1`, "modprobe.blacklist=a,b_c", "root=UUID=1.2", "v[1.2]=3", "\t", ".p=1", "m.=1"}
	var b strings.Builder
	for range 1 + rng.IntN(8) {
		b.WriteString(parts[rng.IntN(len(parts))])
		if rng.IntN(8) > 0 {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// optionTexts returns the parameters that c has, by module.
func optionTexts(c *Config) map[string][]string {
	texts := map[string][]string{}
	for name, list := range c.options {
		for _, o := range list {
			texts[name] = append(texts[name], o.text)
		}
	}
	return texts
}

// ParseCmdline reads what modprobe -c reads when the line is in /proc/cmdline. A
// mount namespace puts it there.
func TestParseCmdlineLikeModprobe(t *testing.T) {
	need.Tools(t, "modprobe", "unshare", "mount")
	need.Root(t)
	root := filepath.Dir(filepath.Dir(filepath.Dir(writeIndex(t, nil))))
	file := filepath.Join(t.TempDir(), "cmdline")
	rng := newRand(3)
	for range 200 {
		line := randomCmdline(rng)
		if err := os.WriteFile(file, []byte(line+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("unshare", "-m", "sh", "-c",
			`mount --bind "$0" /proc/cmdline && exec modprobe -C /dev/null -d "$1" -S test -c`, file, root).Output()
		if err != nil {
			t.Fatalf("modprobe -c: %v", err)
		}
		options, blacklist := map[string][]string{}, map[string]bool{}
		for l := range lines(string(out)) {
			keyword, rest, _ := strings.Cut(l, " ")
			module, param, _ := strings.Cut(rest, " ")
			switch {
			case keyword == "options" && module != "" && param != "": // "m." and ".p" are no use to anybody
				options[module] = append(options[module], param)
			case keyword == "blacklist":
				blacklist[Normalize(rest)] = true // ours on purpose
			}
		}
		got := ParseCmdline(line)
		if diff := cmp.Diff(options, optionTexts(got)) + cmp.Diff(blacklist, got.blacklist); diff != "" {
			t.Errorf("%q (-modprobe +ParseCmdline):\n%s", line, diff)
		}
	}
}

func FuzzCmdline(f *testing.F) {
	rng := newRand(3)
	for range 20 {
		f.Add(randomCmdline(rng))
	}
	f.Add(`BOOT_IMAGE=/vmlinuz root=UUID=1 ro quiet module_blacklist="a,b" modprobe.blacklist=c -- x`)
	f.Fuzz(func(t *testing.T, line string) {
		c := ParseCmdline(line)
		for module, params := range optionTexts(c) {
			if Normalize(module) != module || strings.ContainsAny(module, "\" \t\n=.") {
				t.Errorf("%q: module %q", line, module)
			}
			for _, p := range params {
				// Whoever splits the options again must see what was one word here.
				if word, rest := cutWord(p); word != p || rest != "" {
					t.Errorf("%q: %s: parameter %q is not one word", line, module, p)
				}
			}
		}
		if c.KernelDenied(",") {
			t.Errorf("%q denies a name with a comma", line)
		}
	})
}
