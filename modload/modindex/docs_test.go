package modindex

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The table of cases in docs/kmod.md has all of them, and each test that it names exists.
func TestCasesAreHeld(t *testing.T) {
	const root = "../.."
	data, err := os.ReadFile(filepath.Join(root, "docs/kmod.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, cases, ok := strings.Cut(string(data), "## The cases of module loading")
	if !ok {
		t.Fatal("docs/kmod.md has no table of cases")
	}
	tests := testNames(t, root)
	name := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]*)`")
	next := 1
	for line := range strings.Lines(cases) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || strings.TrimSpace(cells[1]) != strconv.Itoa(next) {
			continue
		}
		next++
		held := cells[3]
		if !name.MatchString(held) && !strings.Contains(held, "(open)") && !strings.Contains(held, "stated exception") {
			t.Errorf("case %d names no test: %s", next-1, held)
		}
		for _, m := range name.FindAllStringSubmatch(held, -1) {
			if !tests[m[1]] {
				t.Errorf("case %d: there is no %s", next-1, m[1])
			}
		}
	}
	if next != 68 {
		t.Errorf("the cases end at %d, want 67", next-1)
	}
}

// testNames returns the names of all tests and fuzz targets below root.
func testNames(t *testing.T, root string) map[string]bool {
	names := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w*)\(`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "build" || d.Name() == "bin" || d.Name() == ".git") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		data, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(data, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
