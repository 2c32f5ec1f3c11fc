package modindex

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// maxText bounds what is read of a text file; that of a full kernel has 2 MiB.
const maxText = 64 << 20

var errDepLine = errors.New("a line of modules.dep has no path")

// readText returns the contents of a text file of the index.
func (x *Index) readText(name string) (string, error) {
	f, err := os.Open(filepath.Join(x.dir, name))
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxText {
		return "", fmt.Errorf("%s: more than %d bytes", f.Name(), maxText)
	}
	return string(data), nil
}

// lines yields the lines of a text file that are neither empty nor comments.
func lines(data string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.SplitSeq(data, "\n") {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' && !yield(line) {
				return
			}
		}
	}
}

// textDeps reads modules.dep and, for the priorities, modules.order.
func (x *Index) textDeps() ([]entry, error) {
	data, err := x.readText("modules.dep")
	if err != nil {
		return nil, err
	}
	entries, err := parseDeps(data, x.optionalText("modules.order"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(x.dir, "modules.dep"), err)
	}
	return entries, nil
}

// parseDeps reads lines "PATH: PATH ...". The priority of a module is its place
// in order; those that are not there follow in the order of data.
func parseDeps(data, order string) ([]entry, error) {
	places := map[string]uint32{}
	place := func(name string) uint32 {
		n, ok := places[name]
		if !ok {
			n = uint32(len(places))
			places[name] = n
		}
		return n
	}
	for path := range lines(order) {
		place(NameOf(path))
	}
	var entries []entry
	for line := range lines(data) {
		path, _, ok := parseDep(line)
		if !ok {
			return nil, fmt.Errorf("%w: %.80q", errDepLine, line)
		}
		name := NameOf(path)
		entries = append(entries, entry{name, value{place(name), []byte(line)}})
	}
	return entries, nil
}

func (x *Index) textAliases() ([]entry, error) { return x.textPatterns("modules.alias") }
func (x *Index) textSymbols() ([]entry, error) { return x.textPatterns("modules.symbols") }

func (x *Index) textPatterns(file string) ([]entry, error) {
	data, err := x.readText(file)
	return parsePatterns(data, x.priority), err
}

// priority returns the priority of a module, the last one if modules.dep does not have it.
func (x *Index) priority(name string) uint32 {
	if v, ok := x.deps.find([]byte(name)); ok {
		return v.priority
	}
	return math.MaxUint32
}

// parsePatterns reads lines "alias PATTERN MODULE". The patterns are as the
// modules have them, with '-'; those that depmod drops are dropped here too.
func parsePatterns(data string, priority func(name string) uint32) []entry {
	var entries []entry
	for line := range lines(data) {
		rest, ok := strings.CutPrefix(line, "alias ")
		i := strings.LastIndexByte(rest, ' ') // a pattern may hold blanks, a name cannot
		if !ok || i < 0 || !balanced(rest[:i]) {
			continue
		}
		name := Normalize(rest[i+1:])
		entries = append(entries, entry{Normalize(rest[:i]), value{priority(name), []byte(name)}})
	}
	return entries
}

// textBuiltins reads modules.builtin: the paths that built-in modules would have.
func (x *Index) textBuiltins() ([]entry, error) {
	data, err := x.readText("modules.builtin")
	return parseBuiltins(data), err
}

func parseBuiltins(data string) []entry {
	var entries []entry
	for path := range lines(data) {
		entries = append(entries, entry{key: NameOf(path)})
	}
	return entries
}

func (x *Index) textBuiltinAliases() ([]entry, error) {
	data, err := x.readText("modules.builtin.modinfo")
	return parseModinfo(data), err
}

// parseModinfo returns the aliases in modules.builtin.modinfo, which is
// "module.key=value" with a NUL behind each.
func parseModinfo(data string) []entry {
	var entries []entry
	for field := range strings.SplitSeq(data, "\x00") {
		key, pattern, _ := strings.Cut(field, "=")
		module, ok := strings.CutSuffix(key, ".alias")
		if !ok || !balanced(pattern) {
			continue
		}
		name := []byte(Normalize(module))
		entries = append(entries, entry{Normalize(pattern), value{text: name}})
	}
	return entries
}
