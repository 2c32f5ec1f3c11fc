package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A pkg is what go list tells of one package of the module.
type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Deps       []string
}

func listPackages(t *testing.T) map[string]pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,GoFiles,Deps,Module", "hapax/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	pkgs := map[string]pkg{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs[p.ImportPath] = p
	}
}

func ours(path string) bool { return path == "hapax" || strings.HasPrefix(path, "hapax/") }

func below(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

// TestArrows holds the import arrows of ARCHITECTURE.md.
func TestArrows(t *testing.T) {
	t.Parallel()
	pkgs := listPackages(t)
	rules := []struct {
		from   string   // this package and those below it
		may    []string // of our packages, these trees and no others; nil: any
		never  []string // of all packages, none of these trees
		reason string
	}{
		{"hapax/uevent", []string{"hapax/uevent"}, nil, "a leaf: std and x/sys"},
		{"hapax/coldplug", []string{"hapax/coldplug"}, nil, "a leaf: std and x/sys"},
		{"hapax/modload/modindex", []string{"hapax/modload/modindex"}, nil, "a leaf, for the builder uses it too"},
		{"hapax/nearest", []string{"hapax/nearest"}, nil, "a leaf, for the builder and PID 1 use it"},
		{"hapax/modload", []string{"hapax/modload"}, nil, "the scheduler knows its index and nothing else"},
		{"hapax/init", []string{"hapax/init", "hapax/uevent", "hapax/coldplug", "hapax/modload", "hapax/nearest"}, nil, "PID 1 does not link the builder"},
		{"hapax/image", []string{"hapax/image", "hapax/modload/modindex", "hapax/nearest"}, nil, "the builder runs on hosts, beside any kernel"},
		{"hapax/init", nil, []string{"net/http", "encoding/json", "log/slog", "os/exec", "regexp", "github.com/spf13"}, "the size of /init, and the guard owns all waits"},
	}
	for _, r := range rules {
		for path, p := range pkgs {
			// modloadtest is for tests alone and may import testing.
			if !below(path, r.from) {
				continue
			}
			for _, dep := range p.Deps {
				if r.may != nil && ours(dep) && !slices.ContainsFunc(r.may, func(root string) bool { return below(dep, root) }) {
					t.Errorf("%s imports %s (%s)", path, dep, r.reason)
				}
				if slices.ContainsFunc(r.never, func(root string) bool { return below(dep, root) }) {
					t.Errorf("%s imports %s (%s)", path, dep, r.reason)
				}
			}
		}
	}
	// /init itself, which PID 1 keeps in memory, is held to more than the second binary of an image.
	for _, dep := range pkgs["hapax/init"].Deps {
		for _, tree := range []string{
			"github.com/u-root", "github.com/vishvananda", "github.com/insomniacslk", "golang.org/x/crypto", "net",
			"hapax/init/internal/base", "hapax/init/internal/network", "hapax/init/internal/login",
		} {
			if below(dep, tree) && dep != "net/netip" {
				t.Errorf("hapax/init imports %s (what belongs into init/extra)", dep)
			}
		}
	}
	// The leaves link nothing from outside but x/sys, and the loader a weighted semaphore and the codecs for modules that the
	// kernel does not unpack (modload/adr/0001-codecs.md).
	codecs := []string{"github.com/klauspost/compress", "github.com/therootcompany/xz", "golang.org/x/sync"}
	for leaf, more := range map[string][]string{
		"hapax/uevent": nil, "hapax/coldplug": nil, "hapax/modload/modindex": nil, "hapax/nearest": nil, "hapax/modload": codecs,
	} {
		for _, dep := range pkgs[leaf].Deps {
			first, _, _ := strings.Cut(dep, "/")
			if strings.Contains(first, ".") && !below(dep, "golang.org/x/sys") &&
				!slices.ContainsFunc(more, func(root string) bool { return below(dep, root) }) {
				t.Errorf("%s imports %s", leaf, dep)
			}
		}
		if len(pkgs[leaf].Deps) == 0 {
			t.Errorf("%s is not there", leaf)
		}
	}
}

// TestPackageComments demands exactly one package comment per package.
func TestPackageComments(t *testing.T) {
	t.Parallel()
	for path, p := range listPackages(t) {
		if !ours(path) || len(p.GoFiles) == 0 { // this folder has tests alone
			continue
		}
		comments := 0
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				comments++
			}
		}
		if comments != 1 {
			t.Errorf("%s has %d package comments, want 1", path, comments)
		}
	}
}

// TestNoOtherSkip holds that tests are skipped by package need alone, which makes a failure of it where everything is there.
func TestNoOtherSkip(t *testing.T) {
	t.Parallel()
	files := 0
	err := fs.WalkDir(os.DirFS(".."), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{"build", "bin", ".git"}, name):
			return fs.SkipDir
		case !strings.HasSuffix(name, ".go") || path.Dir(name) == "tests/need":
			return nil
		}
		files++
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", name), nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.SelectorExpr); ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, call.Sel.Name) {
				t.Errorf("%s: %s: ask package need instead", name, call.Sel.Name)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 100 {
		t.Errorf("%d files of Go code, where there are hundreds", files)
	}
}

// TestOneDoor holds that finit_module and delete_module are called in one file, once each, and their kin nowhere.
func TestOneDoor(t *testing.T) {
	t.Parallel()
	found := map[string]int{}
	for path, p := range listPackages(t) {
		if !ours(path) {
			continue
		}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, call := range moduleCalls(f) {
				if path == "hapax/modload" && name == "kernel_linux.go" && (call == "FinitModule" || call == "DeleteModule") {
					found[call]++
					continue
				}
				t.Errorf("%s/%s calls unix.%s", path, name, call)
			}
		}
	}
	if want := map[string]int{"FinitModule": 1, "DeleteModule": 1}; !maps.Equal(found, want) {
		t.Errorf("modload/kernel_linux.go calls %v, want %v", found, want)
	}
}

// moduleCalls returns the names of the system calls that insert or remove
// modules and are named in f, wrapped or by number.
func moduleCalls(f *ast.File) []string {
	var calls []string
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		switch sel.Sel.Name {
		case "FinitModule", "InitModule", "DeleteModule", "SYS_FINIT_MODULE", "SYS_INIT_MODULE", "SYS_DELETE_MODULE":
			calls = append(calls, sel.Sel.Name)
		}
		return true
	})
	return calls
}
