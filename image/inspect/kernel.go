package inspect

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"hapax/image/archive"
	"hapax/image/vmlinuz"
)

// kernel compares the kernel that will boot the image with the one that the image is for.
func (c *check) kernel() error {
	s := c.tree.Source
	name, release := s.Name, s.Release
	switch {
	case c.target.Kernel != "":
		f, err := os.Open(c.target.Kernel)
		if err != nil {
			return fmt.Errorf("%w", err)
		}
		defer f.Close()
		if name, release = c.target.Kernel, vmlinuz.Release(f); release == "" {
			c.report.find(Note, "release", name, "it does not tell its release, so nothing is compared")
			return nil
		}
	case s.Kernel != nil:
		if inside := vmlinuz.Release(s.Kernel); inside != "" {
			if release != "" && release != inside {
				c.report.find(Warning, "release", s.Name, ".uname says %s, but the kernel in it is %s", release, inside)
			}
			release = inside
		}
	}
	if release != "" && c.report.Release != "" && release != c.report.Release {
		c.report.find(Error, "release", name, "the kernel is %s, but the image has the modules of %s", release, c.report.Release)
	}
	return nil
}

// An option is one that the kernel's configuration must have for the image.
type option struct {
	name  string // without CONFIG_
	level Level
	why   string
}

// options returns what the image takes for granted.
func (c *check) options() []option {
	list := []option{{"BLK_DEV_INITRD", Error, "the kernel unpacks no image without it"}, {"BINFMT_ELF", Error, "no program starts without it"}}
	unpackers := map[archive.Compression]string{
		archive.Zstd: "RD_ZSTD", archive.XZ: "RD_XZ", archive.Gzip: "RD_GZIP", archive.LZ4: "RD_LZ4",
		"bzip2": "RD_BZIP2", "lzma": "RD_LZMA", "lzop": "RD_LZO",
	}
	for _, format := range c.tree.Formats {
		if name := unpackers[format]; name != "" {
			list = append(list, option{name, Error, "the image is compressed with " + string(format)})
		}
	}
	if c.script {
		list = append(list, option{"BINFMT_SCRIPT", Error, "a program that is needed is a script"})
	}
	if len(c.modules) > 0 {
		list = append(list, option{"MODULES", Error, "the image brings modules"})
	}
	if c.tree.Source.Kind == UKI {
		list = append(list, option{"EFI_STUB", Error, "the stub of a unified kernel image starts the kernel as an EFI program"})
	}
	packed := map[string]string{".xz": "FW_LOADER_COMPRESS_XZ", ".zst": "FW_LOADER_COMPRESS_ZSTD"}
	for p := range c.tree.files {
		if end := path.Ext(p); packed[end] != "" && strings.HasPrefix(strings.TrimPrefix(p, "usr/"), "lib/firmware/") {
			list = append(list, option{packed[end], Warning, "the image has firmware packed as " + end[1:]})
			delete(packed, end)
		}
	}
	level := Warning
	if c.report.Maker == "hapax" {
		level = Error
	}
	for _, name := range []string{"PROC_FS", "SYSFS", "TMPFS", "DEVTMPFS", "NET", "UNIX", "EPOLL", "FUTEX"} {
		list = append(list, option{name, level, "init takes it for granted"})
	}
	return list
}

// config compares the kernel's configuration with what the image takes for granted.
func (c *check) config() error {
	file, f, err := c.openConfig()
	if err != nil {
		return err
	}
	if f == nil {
		c.report.find(Note, "config", "CONFIG_*", "no file with the kernel's configuration: give one with --kernel-config")
		return nil
	}
	defer f.Close()
	set, err := readConfig(f)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, o := range c.options() {
		switch value := set["CONFIG_"+o.name]; value {
		case "y":
		case "m":
			c.report.find(o.level, "config", "CONFIG_"+o.name, "a module in %s, and too late as such: %s", file, o.why)
		default:
			c.report.find(o.level, "config", "CONFIG_"+o.name, "not set in %s: %s", file, o.why)
		}
	}
	return nil
}

// openConfig opens the file of the kernel's configuration, nil if there is none.
func (c *check) openConfig() (string, *os.File, error) {
	if name := c.target.KernelConfig; name != "" {
		f, err := os.Open(name)
		if err != nil {
			return "", nil, fmt.Errorf("%w", err)
		}
		return name, f, nil
	}
	release := c.report.Release
	if release == "" || path.Base(release) != release {
		return "", nil, nil
	}
	var places []string
	if dir := c.target.ModulesDir; dir != "" {
		places = append(places, filepath.Join(dir, "config"), filepath.Join(dir, "../../../boot/config-"+release))
	}
	for _, name := range append(places, "/boot/config-"+release, "/lib/modules/"+release+"/config") {
		f, err := os.Open(name)
		if err == nil {
			return name, f, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			c.report.find(Note, "config", name, "not read: %v", err)
		}
	}
	return "", nil, nil
}

// maxConfig bounds a configuration; that of Debian has 280 kB.
const maxConfig = 8 << 20

// readConfig reads lines CONFIG_NAME=VALUE, in a file that may be packed as /proc/config.gz is.
func readConfig(r io.Reader) (map[string]string, error) {
	plain, _, err := archive.Decompress(r)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	set := map[string]string{}
	lines := bufio.NewScanner(io.LimitReader(plain, maxConfig))
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok && strings.HasPrefix(name, "CONFIG_") {
			set[name] = value
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(set) == 0 {
		return nil, errors.New("no line CONFIG_NAME=VALUE: no configuration of a kernel")
	}
	return set, nil
}
