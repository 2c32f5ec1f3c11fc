package inspect

import (
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"hapax/image/modfile"
)

// used looks into the modules that the machine loads: which kernel they are for, and which firmware they name. Without a
// machine, one module tells for which kernel they are.
func (c *check) used() error {
	if c.image == nil {
		return nil
	}
	files := map[string]*File{}
	for name, u := range c.use {
		files[name] = u.file
	}
	if len(files) == 0 && len(c.modules) > 0 {
		name := c.firstModule()
		files[name] = c.modules[name]
	}
	c.ends(files)
	names := slices.Sorted(maps.Keys(files))
	list := make([]*File, len(names))
	for i, name := range names {
		list[i] = files[name]
	}
	infos, errs := parseModules(list)
	strangers := 0
	for i, name := range names {
		if errs[i] != nil {
			c.report.find(Error, "module", name, "%s is damaged: %v", list[i].Path, errs[i])
			continue
		}
		release := infos[i].release()
		if c.report.Release == "" {
			c.report.Release = release // booster's images have no folder that tells
		}
		if release != "" && release != c.report.Release {
			if strangers++; strangers == 1 { // where one is wrong, all are
				c.report.find(Error, "release", name, "built for the kernel %s, and lies among the modules of %s", release, c.report.Release)
			}
		}
		if c.use[name] != nil {
			c.firmware(name, infos[i]["firmware"])
		}
	}
	return nil
}

// firstModule returns the name that is the first of all modules.
func (c *check) firstModule() string { return slices.Min(slices.Collect(maps.Keys(c.modules))) }

// ends reports modules that are cut short, among those whose content is in memory and that are not looked into.
func (c *check) ends(lookedInto map[string]*File) {
	for _, name := range slices.Sorted(maps.Keys(c.modules)) {
		f := c.modules[name]
		if lookedInto[name] != nil {
			continue
		}
		if err := modfile.CheckEnd(f.Content.Data); err != nil {
			c.report.find(Error, "module", name, "%s is damaged: %v", f.Path, err)
		}
	}
}

// firmware reports what a module names and does not find in the image. Drivers name the files of every version and every
// model that they know, so one that is not there says little, and none at all says something.
func (c *check) firmware(module string, names []string) {
	var lacking []string
	for _, name := range names {
		if !c.hasFirmware(name) {
			lacking = append(lacking, name)
		}
	}
	if len(lacking) == 0 {
		return
	}
	host := c.target.FirmwareDir
	if host == "" {
		host = "/lib/firmware"
	}
	where := ""
	for _, name := range lacking {
		if file, ok := hostFirmware(host, name); ok {
			where = "; the host has " + file
			break
		}
	}
	first := lacking[0]
	if n := len(lacking) - 1; n > 0 {
		first += " and " + plural(n, "other")
	}
	if len(lacking) == len(names) {
		c.report.find(Warning, "firmware", module, "none of the firmware that it names is in the image: %s%s", first, where)
		return
	}
	c.report.find(Note, "firmware", module, "it names firmware that is not in the image: %s, of %d%s", first, len(names), where)
}

// packings are the ends of names under which the kernel looks for firmware, with CONFIG_FW_LOADER_COMPRESS.
func packings() []string { return []string{"", ".zst", ".xz"} }

// firmwareDirs are the folders in which the kernel looks, drivers/base/firmware_loader/main.c.
func (c *check) firmwareDirs() []string {
	return []string{"lib/firmware/updates/" + c.report.Release, "lib/firmware/updates", "lib/firmware/" + c.report.Release, "lib/firmware"}
}

// hasFirmware reports whether the image has a firmware file. A name may be a pattern.
func (c *check) hasFirmware(name string) bool {
	for _, dir := range c.firmwareDirs() {
		for _, end := range packings() {
			if f, ok := c.tree.Lookup(path.Join(dir, name) + end); ok && f.Mode.IsRegular() {
				return true
			}
		}
	}
	if !strings.ContainsAny(name, "*?[") {
		return false
	}
	base, ok := c.tree.Lookup("lib/firmware")
	if !ok {
		return false
	}
	for p := range c.tree.files {
		below, ok := strings.CutPrefix(p, base.Path+"/")
		if !ok {
			continue
		}
		for _, end := range packings() {
			if match, err := path.Match(name+end, below); match && err == nil {
				return true
			}
		}
	}
	return false
}

// hostFirmware looks for a firmware file in a folder of the host.
func hostFirmware(dir, name string) (string, bool) {
	if !filepath.IsLocal(name) || strings.ContainsAny(name, "*?[") {
		return "", false
	}
	for _, end := range packings() {
		file := filepath.Join(dir, name) + end
		if _, err := os.Stat(file); err == nil {
			return file, true
		}
	}
	return "", false
}
