package inspect

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"hapax/image/archive"
	"hapax/image/profile"
	"hapax/modload/modindex"
)

// A ShellPolicy says what to think of a shell in an image.
type ShellPolicy string

// The policies. AnyShell is the default.
const (
	AnyShell      ShellPolicy = "any"
	ShellRequired ShellPolicy = "required"
	NoShell       ShellPolicy = "forbidden"
)

// ShellPolicies returns the policies, the default first.
func ShellPolicies() []ShellPolicy { return []ShellPolicy{AnyShell, ShellRequired, NoShell} }

// A Target is what an image is checked against. The zero Target has no machine: only the image itself is looked at.
type Target struct {
	Machine *profile.Profile
	Name    string // of the machine, for people: "this machine" or a file

	ModulesDir   string // the lib/modules/RELEASE folder of the kernel's whole tree; "": /lib/modules/RELEASE if it is there
	FirmwareDir  string // where the host has firmware, to tell what could be added; "": /lib/firmware
	Kernel       string // file of the kernel that will boot the image; "": not known, but for a UKI
	KernelConfig string // file with its configuration; "": looked for beside the modules and in /boot
	Shell        ShellPolicy
	Limits       archive.Limits
}

// spare is how much of an image Check keeps in memory so that it need not be unpacked twice.
const spare = 64 << 20

// Check tells whether the image drives the machine of the target. It asks no kernel and changes nothing. An error is an image
// or a file of the target that cannot be read; what is wrong with an image that can be read stands in the Report.
func Check(s *Source, target Target) (*Report, error) {
	t, err := Read(s, Options{Limits: target.Limits, Keep: needed, Spare: spare})
	if err != nil {
		return nil, err
	}
	c := &check{
		tree: t, target: target, modules: t.Modules(), use: map[string]*use{},
		report: &Report{Summary: Summarize(t), Maker: t.maker(), Machine: target.Name, Findings: []Finding{}},
	}
	defer c.close()
	for _, step := range []func() error{
		c.archives, c.release, c.wholeTree, c.index, c.machine, c.load, c.programs, c.used, c.kernel, c.config,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	c.report.sort()
	return c.report, nil
}

// A check is the state of one Check.
type check struct {
	tree    *Tree
	target  Target
	report  *Report
	modules map[string]*File // by name

	image *moduleIndex    // nil if the image has no modules
	whole *modindex.Index // of all modules of the kernel; nil if that is not at hand
	use   map[string]*use // modules of the image that the machine loads

	init, shell *File
	libraries   map[string]bool // base names of all files, once there is a program to look at
	script      bool            // some program is a script
}

func (c *check) close() {
	// The files were only read; the temporary folder is the system's to clean if that fails.
	if c.image != nil {
		_ = c.image.close()
	}
	if c.whole != nil {
		_ = c.whole.Close()
	}
}

// maker tells which program has made an image by the files that only it puts there.
func (t *Tree) maker() string {
	if f, ok := t.Lookup("etc/initrd-release"); ok && f.Content != nil {
		if slices.Contains(strings.Split(string(f.Content.Data), "\n"), "ID=hapax") {
			return "hapax"
		}
	}
	for _, m := range []struct{ file, maker string }{
		{"etc/booster.init.yaml", "booster"},
		{"usr/lib/dracut", "dracut"},
		{"scripts/init-premount", "initramfs-tools"}, {"conf/initramfs.conf", "initramfs-tools"},
		{"init_functions", "mkinitcpio"},
	} {
		if _, ok := t.Lookup(m.file); ok {
			return m.maker
		}
	}
	return ""
}

// archives reports what the kernel would make of the archives themselves.
func (c *check) archives() error {
	for _, r := range c.tree.Refused {
		c.report.find(Error, "archive", c.tree.Source.Name, "%s", r)
	}
	for _, p := range c.tree.Problems {
		c.report.find(Warning, "archive", c.tree.Source.Name, "the kernel passes over %s", p)
	}
	return nil
}

// release finds out for which kernel the image is.
func (c *check) release() error {
	releases := c.report.Releases
	dirs := []string{}
	for _, name := range releases {
		for _, top := range []string{"usr/lib/modules/", "lib/modules/"} {
			if f, ok := c.tree.Lookup(top + name); ok && !slices.Contains(dirs, f.Path) {
				dirs = append(dirs, f.Path)
			}
		}
	}
	switch {
	case len(c.modules) == 0 && len(dirs) == 0:
		c.report.find(Note, "module", c.tree.Source.Name, "it holds no modules: the kernel has to drive everything itself")
		return nil
	case len(dirs) == 0: // booster keeps them without a folder for the release
		f, ok := c.tree.Lookup("lib/modules")
		if !ok {
			f, ok = c.tree.Lookup("usr/lib/modules")
		}
		if !ok {
			return nil
		}
		dirs = []string{f.Path}
	default:
		c.report.Release = releases[0]
	}
	if len(releases) > 1 {
		c.report.find(Warning, "release", strings.Join(releases, ", "), "modules for more than one kernel: only %s is looked at", releases[0])
	}
	var err error
	c.image, err = c.tree.openIndex(dirs[0])
	if err != nil {
		c.report.find(Error, "module", dirs[0], "its index cannot be read: %v", err)
	}
	if err != nil {
		c.image = nil
	}
	return nil
}

// wholeTree opens the index of all modules that the kernel has, if that is at hand.
func (c *check) wholeTree() error {
	dir := c.target.ModulesDir
	if dir == "" {
		if release := c.report.Release; release != "" && path.Base(release) == release {
			dir = "/lib/modules/" + release
		}
		if _, err := os.Stat(dir); dir == "" || err != nil {
			return nil
		}
	}
	x, err := modindex.Open(dir)
	switch {
	case err == nil:
		c.whole = x
	case c.target.ModulesDir != "":
		return err
	case !errors.Is(err, os.ErrNotExist):
		c.report.find(Note, "module", dir, "not used: %v", err)
	}
	return nil
}

// index reports modules that the image lists and does not have.
func (c *check) index() error {
	if c.image == nil {
		return nil
	}
	listed := map[string]bool{}
	for m := range c.image.All() {
		listed[m.Name] = true
		if _, ok := c.tree.moduleFile(c.image.dir, m); !ok {
			c.report.find(Error, "module", m.Name, "the index lists %s, which is not in the image: build the image again", m.Path)
			continue
		}
		for _, name := range m.Deps {
			dep, ok := c.image.Module(name)
			if ok && !dep.Builtin {
				_, ok = c.tree.moduleFile(c.image.dir, dep)
			}
			if !ok && !c.builtin(name) {
				c.report.find(Error, "module", m.Name, "it needs %s, which is not in the image: build the image again", name)
			}
		}
	}
	for name, f := range c.modules {
		if !listed[name] && strings.HasPrefix(f.Path, c.image.dir+"/") && c.report.Maker != "booster" {
			c.report.find(Warning, "module", name, "%s is not in the index, so nothing finds it: run depmod before the image is built", f.Path)
		}
	}
	if damage := c.image.damage(); damage != "" {
		c.report.find(Error, "module", c.image.dir, "%s", damage)
	}
	return nil
}

// builtin reports whether the kernel has a module built in, as far as anybody knows.
func (c *check) builtin(name string) bool {
	for _, x := range c.indexes() {
		if m, ok := x.Module(name); ok && m.Builtin {
			return true
		}
	}
	return false
}

// indexes returns those of the image and of the whole tree, if they are there.
func (c *check) indexes() []*modindex.Index {
	var list []*modindex.Index
	if c.image != nil {
		list = append(list, c.image.Index)
	}
	if c.whole != nil {
		list = append(list, c.whole)
	}
	return list
}

// plural returns "1 file", "2 files".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
