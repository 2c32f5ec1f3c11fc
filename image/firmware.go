package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"hapax/image/archive"
	"hapax/image/modfile"
)

// A MissingFirmware is a file that a module of the image names and that could not be put into it. Many a driver works
// without, or asks for one of several.
type MissingFirmware struct {
	Name      string   `json:"name"` // as the module says it, perhaps a pattern
	Modules   []string `json:"modules"`
	Elsewhere string   `json:"elsewhere,omitempty"` // a file of the host with its name in another place
}

func (m MissingFirmware) String() string {
	s := fmt.Sprintf("firmware %s, named by %s, is missing", m.Name, strings.Join(m.Modules, ", "))
	if m.Elsewhere != "" {
		s += "; the host has " + m.Elsewhere
	}
	return s
}

// firmwareNames returns what the modules of the image and those built into the kernel name, with these modules.
func (b *builder) firmwareNames(ctx context.Context) (map[string][]string, error) {
	lists := make([][]string, len(b.modules))
	damaged := make([]error, len(b.modules))
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(runtime.GOMAXPROCS(0))
	for i, m := range b.modules {
		if namesNoFirmware(m.Path) {
			continue
		}
		work.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			info, err := modfile.Info(filepath.Join(b.index.Dir(), m.Path))
			lists[i], damaged[i] = modfile.Values(info, "firmware"), err
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	wanted := map[string][]string{}
	for i, m := range b.modules {
		if damaged[i] != nil {
			// One bad file of thousands is no reason to have no image: the boot report names it if a device needs it.
			b.warnf("%v: the module is damaged, and what firmware it names is not known", damaged[i])
		}
		for _, name := range lists[i] {
			wanted[name] = append(wanted[name], m.Name)
		}
	}
	err := b.builtinFirmware(wanted)
	for name, by := range wanted {
		slices.Sort(by)
		wanted[name] = slices.Compact(by)
	}
	return wanted, err
}

// builtinFirmware adds what modules.builtin.modinfo says: MODULE.KEY=VALUE, each ended by a NUL.
func (b *builder) builtinFirmware(wanted map[string][]string) error {
	data, err := os.ReadFile(filepath.Join(b.index.Dir(), "modules.builtin.modinfo"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w", err)
	}
	for pair := range strings.SplitSeq(string(data), "\x00") {
		key, value, _ := strings.Cut(pair, "=")
		if module, ok := strings.CutSuffix(key, ".firmware"); ok {
			wanted[value] = append(wanted[value], module+" (built in)")
		}
	}
	return nil
}

// namesNoFirmware reports whether a module lies in a folder whose modules drive nothing that has firmware, or have it
// loaded by another one. To unpack them all would take most of the time of a build; TestFirmwareFolders holds it against
// modinfo(8).
func namesNoFirmware(file string) bool {
	if strings.HasPrefix(file, "kernel/drivers/hid/") {
		return !strings.HasPrefix(file, "kernel/drivers/hid/intel-ish-hid/")
	}
	for _, folder := range []string{
		"kernel/arch/", "kernel/block/", "kernel/crypto/", "kernel/fs/", "kernel/lib/", "kernel/mm/", "kernel/security/",
		"kernel/drivers/acpi/", "kernel/drivers/ata/", "kernel/drivers/block/", "kernel/drivers/cdrom/", "kernel/drivers/char/tpm/",
		"kernel/drivers/dma/", "kernel/drivers/firewire/", "kernel/drivers/hv/", "kernel/drivers/input/keyboard/",
		"kernel/drivers/md/", "kernel/drivers/message/fusion/", "kernel/drivers/mmc/", "kernel/drivers/nvdimm/",
		"kernel/drivers/nvme/", "kernel/drivers/pci/", "kernel/drivers/pcmcia/", "kernel/drivers/spi/",
		"kernel/drivers/thunderbolt/", "kernel/drivers/ufs/", "kernel/drivers/usb/core/", "kernel/drivers/virtio/",
	} {
		if strings.HasPrefix(file, folder) {
			return true
		}
	}
	return false
}

// addFirmware adds the firmware that modules name, and what the spec and hooks ask for.
func (b *builder) addFirmware(ctx context.Context) error {
	wanted, err := b.firmwareNames(ctx)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		modules := wanted[name]
		found, err := b.addFirmwareFile(name, "firmware of "+strings.Join(modules, ", "))
		if err != nil {
			return err
		}
		if !found {
			m := MissingFirmware{Name: name, Modules: modules, Elsewhere: b.elsewhere(name)}
			b.result.Missing = append(b.result.Missing, m)
		}
	}
	asked := func(names []string, why string) error {
		for _, name := range names {
			found, err := b.addFirmwareFile(name, why)
			if err == nil && !found {
				err = fmt.Errorf("firmware %s is not below %s", name, strings.Join(b.spec.FirmwareDirs, " or "))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	for _, h := range b.hooks {
		if err := asked(h.Firmware, h.why()); err != nil {
			return err
		}
	}
	return asked(b.spec.Firmware, "--firmware")
}

// firmwarePlaces returns the folders below which the kernel looks for firmware, in its order.
func (b *builder) firmwarePlaces() []string {
	release := filepath.Base(b.spec.ModulesDir)
	var places []string
	for _, dir := range b.spec.FirmwareDirs {
		for _, sub := range []string{"updates/" + release, "updates", release, ""} {
			places = append(places, filepath.Join(dir, sub))
		}
	}
	return places
}

// addFirmwareFile adds the files that a name or pattern stands for, as they lie on the host: plain or packed with zstd or
// xz. It reports whether there is any.
func (b *builder) addFirmwareFile(pattern, why string) (found bool, err error) {
	if !fs.ValidPath(pattern) {
		return false, nil // no file below a folder: nothing that the kernel would load either
	}
	for _, dir := range b.firmwarePlaces() {
		for _, suffix := range []string{"", ".zst", ".xz"} { // the kernel's order
			files := []string{filepath.Join(dir, pattern+suffix)}
			if strings.ContainsAny(pattern, "*?[") {
				files = globBelow(dir, pattern+suffix)
			}
			for _, file := range files {
				ok, err := b.addFirmwareAt(dir, file, why)
				if err != nil {
					return false, err
				}
				found = found || ok
			}
			if found && !strings.ContainsAny(pattern, "*?[") {
				return true, nil // what comes later is hidden
			}
		}
	}
	return found, nil
}

// globBelow returns the regular files below dir that match a pattern.
func globBelow(dir, pattern string) []string {
	var files []string
	matches, _ := fs.Glob(os.DirFS(dir), pattern) // a pattern that is none matches nothing
	for _, name := range matches {
		files = append(files, filepath.Join(dir, name))
	}
	return files
}

// addFirmwareAt adds one file if it is there. Links, of which linux-firmware has many, become files: the content is what
// counts, and a link out of the folder would lead nowhere.
func (b *builder) addFirmwareAt(dir, file, why string) (bool, error) {
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() {
		return false, nil //nolint:nilerr // a file that cannot be had is missing, whatever the cause
	}
	below, err := filepath.Rel(b.firmwareTop(dir), file)
	if err != nil {
		return false, err
	}
	name := path.Join("lib/firmware", filepath.ToSlash(below))
	if b.tree.Has(name) {
		return true, nil
	}
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return false, fmt.Errorf("%w", err)
	}
	if b.firmware == nil {
		b.firmware = map[string]string{}
	}
	b.result.Firmware++
	if first := b.firmware[real]; first != "" {
		return true, b.add(archive.HardLink(name, first, 0o644), why)
	}
	e, err := fileEntry(name, real)
	if err != nil {
		return false, err
	}
	e.Mode = 0o644
	b.firmware[real] = name
	return true, b.add(e, why)
}

// firmwareTop returns the --firmware-dir that a folder of firmwarePlaces belongs to.
func (b *builder) firmwareTop(dir string) string {
	found := dir
	for _, top := range b.spec.FirmwareDirs { // one may lie in another: the inner one is meant
		if rel, err := filepath.Rel(top, dir); err == nil && filepath.IsLocal(rel) && (found == dir || len(top) > len(found)) {
			found = top
		}
	}
	return found
}

// elsewhere looks for a firmware file where this build does not take it from: below the host's own folder, and under
// another folder of those that it does take from.
func (b *builder) elsewhere(name string) string {
	if strings.ContainsAny(name, "*?[") {
		return ""
	}
	for _, dir := range []string{"/lib/firmware", "/usr/lib/firmware", "/usr/local/lib/firmware"} {
		for _, suffix := range []string{"", ".zst", ".xz"} {
			file := filepath.Join(dir, name+suffix)
			if _, err := os.Stat(file); err == nil {
				return file
			}
		}
	}
	if b.firmwareByBase == nil {
		b.firmwareByBase = map[string]string{}
		for _, dir := range b.spec.FirmwareDirs {
			// What cannot be read is not found.
			_ = filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					base := strings.TrimSuffix(strings.TrimSuffix(d.Name(), ".xz"), ".zst")
					if b.firmwareByBase[base] == "" {
						b.firmwareByBase[base] = file
					}
				}
				return nil
			})
		}
	}
	return b.firmwareByBase[path.Base(name)]
}
