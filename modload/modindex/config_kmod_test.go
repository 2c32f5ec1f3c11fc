package modindex

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"hapax/tests/need"
)

// machineCmdline is the kernel command line of this machine, which modprobe
// reads whatever else it is told.
func machineCmdline(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// dump returns c as modprobe -c prints it: the lines of each keyword in order.
// The blacklist is a set, and soft dependencies are without blanks, of which
// modprobe forgets some. Weakdeps and denials are nothing that kmod 30 knows.
func dump(c *Config) map[string][]string {
	type line struct {
		place int
		text  string
	}
	lines := map[string][]line{}
	put := func(keyword string, place int, words ...string) {
		lines[keyword] = append(lines[keyword], line{place, strings.Join(words, " ")})
	}
	for keyword, r := range map[string]*rules[string]{"alias": &c.aliases, "install": &c.install, "remove": &c.remove} {
		for _, l := range flat(r) {
			put(keyword, l.place, l.pattern, l.value)
		}
	}
	for _, l := range flat(&c.softdeps) {
		words := []string{l.pattern}
		if l.value.pre != nil {
			words = append(append(words, "pre:"), l.value.pre...)
		}
		if l.value.post != nil {
			words = append(append(words, "post:"), l.value.post...)
		}
		put("softdep", l.place, strings.Join(spaced(strings.Join(words, " ")), ""))
	}
	for name, options := range c.options {
		for _, o := range options {
			put("options", o.place, name, o.text)
		}
	}
	texts := map[string][]string{}
	for keyword, list := range lines {
		slices.SortFunc(list, func(a, b line) int { return cmp.Compare(a.place, b.place) })
		for _, l := range list {
			texts[keyword] = append(texts[keyword], l.text)
		}
	}
	for name := range c.blacklist {
		texts["blacklist"] = append(texts["blacklist"], name)
	}
	slices.Sort(texts["blacklist"])
	return withoutEmpty(texts)
}

func withoutEmpty(texts map[string][]string) map[string][]string {
	maps.DeleteFunc(texts, func(_ string, list []string) bool { return len(list) == 0 })
	return texts
}

// flat returns all lines of r.
func flat[T any](r *rules[T]) []rule[T] {
	list := slices.Clone(r.globs)
	for _, lines := range r.exact {
		list = append(list, lines...)
	}
	return list
}

// parseDump reads what modprobe -c prints before it goes on to the index.
func parseDump(out string) map[string][]string {
	out, _, _ = strings.Cut(out, "\n# End of configuration files.")
	texts := map[string][]string{}
	for line := range strings.SplitSeq(out, "\n") {
		keyword, rest, ok := strings.Cut(line, " ")
		if !ok {
			continue
		}
		switch keyword {
		case "softdep":
			rest = strings.Join(spaced(rest), "")
		case "options":
			if strings.HasPrefix(rest, " ") || strings.HasSuffix(rest, " ") && strings.Count(rest, " ") == 1 {
				continue // "m." and ".p" of a kernel command line, which are no use to anybody
			}
		}
		texts[keyword] = append(texts[keyword], rest)
	}
	slices.Sort(texts["blacklist"])
	texts["blacklist"] = slices.Compact(texts["blacklist"])
	return withoutEmpty(texts)
}

// randomLines returns lines of modprobe.d(5), of which some are good and each
// has something to trip over.
func randomLines(rng *rand.Rand) string {
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	word := func() string {
		return pick("a", "b-c", "d_e", "f*", "g[0-9]h-i", "j]k", "l[", "m?n", `o\p`, "q\\\n r", "pre:", "post:", "s\x00t", "é", "#", "u=1", `"v w"`)
	}
	var b strings.Builder
	for range 1 + rng.IntN(8) {
		b.WriteString(pick("", "", "", " ", "\t", "#", "# x\\\n"))
		blanks := []string{" ", " ", "\t", "  ", " \t ", " \\\n", "\v", ""}
		keyword := pick("alias", "blacklist", "install", "options", "remove", "softdep", "include", "unknown", "alias", "softdep")
		if b.WriteString(keyword); keyword == "softdep" {
			blanks = []string{" ", "\t"} // behind two of them modprobe loses a "pre:"
		}
		for range rng.IntN(6) {
			b.WriteString(pick(blanks...))
			b.WriteString(word())
		}
		if ends := []string{"\n", "\n", "\n", "\n", "\r\n", "\n\n", "\\\\\n", " \n", "\\\n"}; keyword == "softdep" {
			b.WriteString(pick(ends[:7]...))
		} else {
			b.WriteString(pick(ends...))
		}
	}
	return b.String()
}

// What ReadConfig reads in two folders is what modprobe -c reads there.
func TestReadConfigLikeModprobe(t *testing.T) {
	need.Tools(t, "modprobe")
	root := filepath.Dir(filepath.Dir(filepath.Dir(writeIndex(t, nil))))
	cmdline := machineCmdline(t)
	rng := newRand(5)
	names := []string{"10-a.conf", "9.conf", "B.conf", "a-b.conf", "a.conf", ".x.conf", "y.conf~", "z.conf"}
	for range 300 {
		files := map[string]string{"high/z.conf": "blacklist z\n", "low/0.conf": ""}
		for range 4 {
			files[[]string{"high", "low"}[rng.IntN(2)]+"/"+names[rng.IntN(len(names))]] = randomLines(rng)
		}
		dir := writeConfig(t, files)
		high, low := filepath.Join(dir, "high"), filepath.Join(dir, "low")
		out, err := exec.Command("modprobe", "-C", high, "-C", low, "-d", root, "-S", "test", "-c").Output()
		if err != nil {
			t.Fatalf("modprobe -c: %v", err)
		}
		c, _ := ReadConfig([]string{high, low}, cmdline)
		if diff := gocmp.Diff(parseDump(string(out)), dump(c)); diff != "" {
			t.Errorf("%q (-modprobe +ReadConfig):\n%s", files, diff)
		}
	}
}

// The folders and which of them comes first are those that modprobe has built in. A
// mount namespace puts the files there.
func TestConfigDirsLikeModprobe(t *testing.T) {
	need.Tools(t, "modprobe", "unshare", "mount")
	need.Root(t)
	files := map[string]string{}
	for i, dir := range []string{"etc", "run", "usr/local/lib", "lib"} {
		files[fmt.Sprintf("%s/modprobe.d/%d.conf", dir, 9-i)] = "options m own=" + dir
		for _, lower := range []string{"etc", "run", "usr/local/lib", "lib"}[i:] {
			files[fmt.Sprintf("%s/modprobe.d/shared%d.conf", lower, i)] = "options m shared=" + lower
		}
	}
	root := writeConfig(t, files)
	index := filepath.Dir(filepath.Dir(filepath.Dir(writeIndex(t, nil))))
	const script = `set -e
mount --bind "$0/etc" /etc
mount --bind "$0/run" /run
mount --bind "$0/usr/local/lib" /usr/local/lib
mkdir -p /lib/modprobe.d
mount --bind "$0/lib/modprobe.d" /lib/modprobe.d
exec modprobe -d "$1" -S test -c`
	out, err := exec.Command("unshare", "-m", "sh", "-c", script, root, index).Output()
	if err != nil {
		t.Fatalf("modprobe -c: %v", err)
	}
	c, problems := ReadConfig(ConfigDirs(root), machineCmdline(t))
	if diff := gocmp.Diff(parseDump(string(out)), dump(c)); diff != "" || problems != nil {
		t.Errorf("%q (-modprobe +ReadConfig):\n%s", problems, diff)
	}
	if got := c.Options("m"); !strings.Contains(got, "shared=usr/local/lib shared=lib") {
		t.Errorf("Options = %q: not a test", got)
	}
}
