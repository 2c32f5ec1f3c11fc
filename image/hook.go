package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"hapax/image/inroot"
	"hapax/image/profile"
	"hapax/image/resolve"
	"hapax/image/strict"
)

// HookDirs returns the folders below root where hooks are looked for, the most important one first.
func HookDirs(root string) []string {
	return []string{
		filepath.Join(root, "etc/hapax/include.d"), filepath.Join(root, "usr/local/lib/hapax/include.d"),
		filepath.Join(root, "usr/lib/hapax/include.d"),
	}
}

// A hook is a file of include.d: what a package adds to images. It says what, and never how: there is no code in it.
type hook struct {
	Name      string    `toml:"name"`
	Condition condition `toml:"condition"`

	Modules   []resolve.Rule `toml:"modules"`
	ForceLoad []string       `toml:"force-load"`
	Firmware  []string       `toml:"firmware"`
	Programs  []string       `toml:"programs"` // with their libraries, from the root
	Modprobe  []string       `toml:"modprobe"` // lines of modprobe.d(5)

	Files   []hookFile   `toml:"file"`
	Folders []hookFolder `toml:"folder"`
	Links   []hookLink   `toml:"link"`
	Nodes   []hookNode   `toml:"node"`
	Users   []hookUser   `toml:"user"`
	Groups  []hookGroup  `toml:"group"`

	file string // where it was read
}

// A condition says for which images a hook is. What is left out holds always.
type condition struct {
	Exists []string `toml:"exists"` // all of these are below the root
	Modes  []Mode   `toml:"modes"`  // the image is made in one of these
	Arch   []string `toml:"arch"`   // the image is for one of these, as GOARCH has them
	// Needs is for the modes Host and FromProfile: one of the machines needs one of these modules for its root, its keyboard or
	// its console.
	Needs []string `toml:"needs"`
}

type hookFile struct {
	Source  string  `toml:"source"`  // below the root; a folder with all that is in it
	Target  string  `toml:"target"`  // default Source
	Content *string `toml:"content"` // in the place of Source
	Mode    octal   `toml:"mode"`    // default that of Source, 0644 for Content
}

type hookFolder struct {
	Target string `toml:"target"`
	Mode   octal  `toml:"mode"` // default 0755
}

type hookLink struct {
	Target string `toml:"target"` // where the link is
	To     string `toml:"to"`
}

type hookNode struct {
	Target string `toml:"target"`
	Type   string `toml:"type"` // "char" or "block"
	Major  uint32 `toml:"major"`
	Minor  uint32 `toml:"minor"`
	Mode   octal  `toml:"mode"` // default 0600
}

type hookUser struct {
	Name  string `toml:"name"`
	UID   uint32 `toml:"uid"`
	GID   uint32 `toml:"gid"`
	Home  string `toml:"home"`  // default "/"
	Shell string `toml:"shell"` // default "/bin/sh"
}

type hookGroup struct {
	Name    string   `toml:"name"`
	GID     uint32   `toml:"gid"`
	Members []string `toml:"members"`
}

// An octal is a mode written as a string, "0644".
type octal fs.FileMode

// UnmarshalText reads octal digits.
func (o *octal) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 12)
	if err != nil {
		return fmt.Errorf("%q is no mode: write octal digits, like \"0644\"", text)
	}
	*o = octal(n)
	return nil
}

// or returns the mode, or another one if none was given.
func (o octal) or(standard fs.FileMode) fs.FileMode {
	if o == 0 {
		return standard
	}
	mode := fs.FileMode(o) & fs.ModePerm
	for bit, special := range map[octal]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if o&bit != 0 {
			mode |= special
		}
	}
	return mode
}

func (h hook) why() string { return "hook " + h.Name }

// rules returns what the hook asks for, with its name.
func (h hook) rules() []resolve.Rule {
	var rules []resolve.Rule
	for _, r := range h.Modules {
		r.From, r.Optional = h.why(), true // a package serves every kernel
		rules = append(rules, r)
	}
	for _, name := range h.ForceLoad {
		rules = append(rules, resolve.Rule{Name: name, From: h.why()})
	}
	return rules
}

// readHooks reads the hooks whose condition holds, in the order of their file names. A file hides those of its name in later
// folders; one that is empty, or a link to /dev/null, hides and does nothing.
func (b *builder) readHooks(context.Context) error {
	dirs := b.spec.HookDirs
	if len(dirs) == 0 {
		dirs = HookDirs(b.spec.Root)
	}
	files := map[string]string{}
	for i, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) && len(b.spec.HookDirs) == 0 {
			continue
		}
		if err != nil {
			return fmt.Errorf("hooks, folder %d: %w", i+1, err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".toml") && files[e.Name()] == "" {
				files[e.Name()] = filepath.Join(dir, e.Name())
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h, err := readHook(files[name])
		if err != nil {
			return err
		}
		holds, err := b.holds(h.Condition)
		if err != nil {
			return fmt.Errorf("%s: %w", h.file, err)
		}
		if holds && h.Name != "" {
			b.hooks = append(b.hooks, h)
		}
	}
	return nil
}

// readHook reads one file. A hook without a name is one that is empty.
func readHook(file string) (hook, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return hook{}, fmt.Errorf("%w", err)
	}
	h := hook{file: file}
	if strings.TrimSpace(string(data)) == "" {
		return h, nil
	}
	if err := strict.Decode(file, data, &h); err != nil {
		return hook{}, err
	}
	if h.Name == "" {
		return hook{}, fmt.Errorf("%s: a hook needs a name", file)
	}
	return h, nil
}

// holds reports whether a hook is for this image.
func (b *builder) holds(c condition) (bool, error) {
	for _, name := range c.Exists {
		_, err := inroot.Resolve(b.spec.Root, name)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("%w", err)
		}
	}
	if len(c.Modes) > 0 && !slices.Contains(c.Modes, b.spec.Mode) {
		return false, nil
	}
	if len(c.Arch) > 0 && !slices.Contains(c.Arch, b.spec.Arch.name()) {
		return false, nil
	}
	if len(c.Needs) == 0 || len(b.machines) == 0 {
		return true, nil
	}
	return slices.ContainsFunc(b.machines, func(p profile.Profile) bool {
		return slices.ContainsFunc(p.Needs, func(n profile.Need) bool { return slices.Contains(c.Needs, n.Module) })
	}), nil
}
