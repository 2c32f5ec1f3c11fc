// Package debian fetches binary packages through apt, unpacks them into a cache
// folder and makes kernels out of them that QEMU can boot.
//
// It installs nothing, needs no root, and changes nothing outside its folder.
// A package that has been fetched once is used again when apt cannot be reached.
package debian

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A Store is a folder of unpacked packages, one subfolder for each package and version.
// Its methods may be called concurrently, from several processes too: a package
// arrives whole, by a rename, and the first of two that fetch the same one wins.
type Store struct {
	Dir  string                           // made when it is needed
	Logf func(format string, args ...any) // takes a line for each slow step; nil is silent
}

// A Package is one unpacked binary package.
type Package struct {
	Name    string
	Version string
	Depends []string // Pre-Depends, then Depends; of alternatives only the first
	Root    string   // the folder that stands for /, as dpkg-deb -x fills it
}

// A cached package has two entries in its folder: what apt said about it, and its files.
const (
	controlFile = "control"
	rootDir     = "root"
)

// Package returns the candidate version of the named package, fetching it unless the store has it.
// When apt knows no candidate or cannot download it, the version that was fetched last is returned;
// without one, the error says what apt said. Below lib/modules of the package depmod(8) has been run.
func (s *Store) Package(ctx context.Context, name string) (Package, error) {
	c, err := candidate(ctx, name)
	if err == nil {
		var p Package
		if p, err = s.ensure(ctx, c); err == nil {
			return p, nil
		}
	}
	if ctx.Err() != nil {
		return Package{}, err
	}
	p, ok := s.newest(name)
	if !ok {
		return Package{}, fmt.Errorf("debian package %s: %w", name, err)
	}
	s.logf("%s: using %s from the cache (%v)", name, p.Version, err)
	return p, nil
}

// Closure returns the named packages and everything they depend on, directly or through others,
// as long as follow accepts the name. Each package comes once, before those that it depends on.
func (s *Store) Closure(ctx context.Context, follow func(name string) bool, names ...string) ([]Package, error) {
	var all []Package
	seen := make(map[string]bool)
	queue := append([]string(nil), names...)
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		if seen[name] {
			continue
		}
		seen[name] = true
		p, err := s.Package(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
		for _, d := range p.Depends {
			if follow(d) {
				queue = append(queue, d)
			}
		}
	}
	return all, nil
}

// ensure returns the package that c describes from the cache, or fetches it into the cache.
func (s *Store) ensure(ctx context.Context, c control) (Package, error) {
	dir := filepath.Join(s.Dir, c.folder())
	if p, err := load(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return Package{}, err
	}
	tmp, err := os.MkdirTemp(s.Dir, ".new-")
	if err != nil {
		return Package{}, err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return Package{}, err
	}
	s.logf("%s: fetching %s", c.name, c.version)
	if err := fetch(ctx, c, tmp); err != nil {
		return Package{}, err
	}
	if err := os.WriteFile(filepath.Join(tmp, controlFile), []byte(c.text), 0o644); err != nil {
		return Package{}, err
	}
	// A folder that is there and not empty cannot be renamed over: someone else was faster.
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return Package{}, err
	}
	return load(dir)
}

// load reads a package of the cache. The error is fs.ErrNotExist if dir is not there.
func load(dir string) (Package, error) {
	text, err := os.ReadFile(filepath.Join(dir, controlFile))
	if err != nil {
		return Package{}, err
	}
	c, err := parseControl(string(text))
	if err != nil {
		return Package{}, fmt.Errorf("%s: %w (remove the folder to fetch the package again)", dir, err)
	}
	return Package{Name: c.name, Version: c.version, Depends: c.depends, Root: filepath.Join(dir, rootDir)}, nil
}

// newest returns the cached version of a package that was fetched last.
func (s *Store) newest(name string) (Package, bool) {
	files, _ := filepath.Glob(filepath.Join(s.Dir, name+"_*", controlFile)) // the pattern is well-formed: package names hold no wildcard
	var best string
	var bestInfo fs.FileInfo
	for _, f := range files {
		info, err := os.Stat(f)
		if err == nil && (bestInfo == nil || info.ModTime().After(bestInfo.ModTime())) {
			best, bestInfo = filepath.Dir(f), info
		}
	}
	if best == "" {
		return Package{}, false
	}
	p, err := load(best)
	return p, err == nil
}

func (s *Store) logf(format string, args ...any) {
	if s.Logf != nil {
		s.Logf(format, args...)
	}
}

// folder is the name of the package's folder in a store. An epoch's colon is written as apt does it in file names.
func (c control) folder() string {
	return c.name + "_" + strings.ReplaceAll(c.version, ":", "%3a")
}
