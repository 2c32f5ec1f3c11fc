// Package image builds boot images: an initramfs with hapax as /init and the kernel modules that a machine needs.
//
// The same Spec over the same files gives the same bytes, whatever the folder, the user, the umask or the time.
package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"hapax/image/archive"
	"hapax/image/resolve"
	"hapax/modload/modindex"
)

// A Mode says where the selection of modules begins.
type Mode string

// The modes of Build.
const (
	Universal Mode = "universal" // what boots any usual machine of the kernel from local storage
	All       Mode = "all"       // every module of the tree
)

// Modes returns the modes of Build, the default first.
func Modes() []Mode { return []Mode{Universal, All} }

// DefaultCompression is what a Spec without Compression gets.
const DefaultCompression = archive.LZ4

// Values of Spec.Shell that are no file.
const (
	NoShell    = "none"
	URootShell = "u-root"
)

// A Spec says what to build. Zero fields stand for the defaults of `hapax build`, except for Output and ModulesDir, which
// are needed.
type Spec struct {
	Output string // replaced at once when the image is complete, never touched before
	Force  bool   // replace an Output that exists

	ModulesDir string         // a lib/modules/RELEASE folder with depmod's files; its name is the release
	Mode       Mode           // default Universal
	Modules    []resolve.Rule // applied after the mode's own
	ForceLoad  []string       // names or aliases to load at every boot, in this order; they are selected as well

	Init     string    // file for /init; default the embedded one
	Shell    string    // NoShell (the default), URootShell or a file for /bin/sh
	Includes []Include // more files

	Compression archive.Compression // default DefaultCompression
	Time        time.Time           // of every file; default the epoch

	// Progress is called after each piece of the archive with the bytes before compression that are done and in all.
	Progress func(done, total int64)
}

// A Result describes the image that was built.
type Result struct {
	Output      string              `json:"output"`
	Release     string              `json:"release"`
	Modules     int                 `json:"modules"`
	Files       int                 `json:"files"` // folders, links and nodes included
	Content     int64               `json:"content_bytes"`
	Size        int64               `json:"size_bytes"`
	Compression archive.Compression `json:"compression"`
}

// Build makes the image of spec. When it fails, or ctx ends, Output is as it was and nothing is left beside it.
// Builds of the same Output at the same time each leave a whole image, the last one stays.
func Build(ctx context.Context, spec Spec) (Result, error) {
	spec, err := spec.withDefaults()
	if err != nil {
		return Result{}, err
	}
	if err := checkOutput(spec.Output, spec.Force); err != nil {
		return Result{}, err
	}
	if info, err := os.Stat(spec.ModulesDir); err != nil || !info.IsDir() {
		return Result{}, fmt.Errorf("%s: no such folder: name a lib/modules/RELEASE folder with --modules-dir", spec.ModulesDir)
	}
	index, err := modindex.Open(spec.ModulesDir)
	if err != nil {
		return Result{}, err
	}
	defer index.Close()
	tree, modules, err := compose(spec, index)
	if err != nil {
		return Result{}, err
	}
	entries := tree.Entries()
	result := Result{
		Output: spec.Output, Release: filepath.Base(spec.ModulesDir), Compression: spec.Compression,
		Modules: modules, Files: len(entries),
	}
	result.Content, result.Size, err = write(ctx, spec, entries)
	return result, err
}

// withDefaults fills in what was left out and checks what needs no file.
func (s Spec) withDefaults() (Spec, error) {
	if s.Output == "" || s.ModulesDir == "" {
		return s, errors.New("an output file and a modules folder are needed")
	}
	dir, err := filepath.Abs(s.ModulesDir) // so that "." has a name, too
	if err != nil {
		return s, err
	}
	s.ModulesDir = dir
	if s.Mode == "" {
		s.Mode = Universal
	}
	if s.Shell == "" {
		s.Shell = NoShell
	}
	if s.Compression == "" {
		s.Compression = DefaultCompression
	}
	if s.Time.IsZero() {
		s.Time = time.Unix(0, 0)
	}
	return s, nil
}

// rules returns the whole selection of a spec.
func (s Spec) rules() ([]resolve.Rule, error) {
	var rules []resolve.Rule
	switch s.Mode {
	case All:
		rules = resolve.All()
	case Universal:
		universal, err := resolve.Universal()
		if err != nil {
			return nil, err
		}
		rules = universal
	default:
		return nil, fmt.Errorf("unknown mode %q", string(s.Mode))
	}
	rules = append(rules, s.Modules...)
	for _, name := range s.ForceLoad {
		rules = append(rules, resolve.Rule{Name: name})
	}
	return rules, nil
}
