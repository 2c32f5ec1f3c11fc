package base

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"hapax/init/internal/klog"
)

// sysctlDirs are the folders of sysctl.d(5), the weightiest first: a file hides those of the same name in later ones.
func sysctlDirs() []string {
	return []string{"/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"}
}

const procSys = "/proc/sys"

// A setting is one line of sysctl.d(5).
type setting struct {
	key     string // with slashes, maybe a pattern, relative to /proc/sys
	value   string
	lenient bool   // begins with '-': a failure is no news
	from    string // file and line, for messages
}

// sysctl applies the files of sysctl.d(5) in the order of their names, then /etc/sysctl.conf, and last the words sysctl.KEY=VALUE
// of the command line. The kernel has applied those already, but to what was there then, and before the files; it has also
// complained of what it could not set.
func (s *System) sysctl() error {
	var errs []error
	for _, file := range s.sysctlFiles() {
		text, err := s.read(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // /etc/sysctl.conf need not be there
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		settings, err := parseSysctl(file, text)
		errs = append(errs, err)
		for _, set := range settings {
			errs = append(errs, s.apply(set))
		}
	}
	for key, value := range s.Params.Below("sysctl.") {
		name, ok := sysctlPath(key)
		if !ok {
			errs = append(errs, fmt.Errorf("sysctl.%s: no such name", klog.Printable(key)))
			continue
		}
		errs = append(errs, s.apply(setting{key: name, value: value, from: "command line", lenient: true}))
	}
	return errors.Join(errs...)
}

// sysctlFiles returns the files to apply, in order.
func (s *System) sysctlFiles() []string {
	byName := map[string]string{}
	for _, dir := range slices.Backward(sysctlDirs()) {
		entries, _ := os.ReadDir(s.Root + dir) // none need be there
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".conf") && !strings.HasPrefix(e.Name(), ".") {
				byName[e.Name()] = dir + "/" + e.Name()
			}
		}
	}
	names := make([]string, 0, len(byName)+1)
	for name := range byName {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = byName[name]
	}
	return append(names, "/etc/sysctl.conf")
}

// parseSysctl reads the lines of one file: "[-]KEY = VALUE", comments with '#' and ';', empty ones. The error names each line
// that is none of these.
func parseSysctl(file, text string) ([]setting, error) {
	var settings []setting
	var errs []error
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		from := fmt.Sprintf("%s:%d", file, number)
		set := setting{from: from}
		if set.lenient = line[0] == '-'; set.lenient {
			line = line[1:]
		}
		key, value, assigned := strings.Cut(line, "=")
		name, ok := sysctlPath(strings.TrimSpace(key))
		switch {
		case !assigned && set.lenient: // "-KEY" takes the key out of the patterns that follow, of which only systemd knows
			continue
		case !assigned || !ok:
			errs = append(errs, fmt.Errorf("%s: %q is not of the form KEY = VALUE", from, klog.Printable(line)))
			continue
		}
		set.key, set.value = name, strings.TrimSpace(value)
		settings = append(settings, set)
	}
	return settings, errors.Join(errs...)
}

// sysctlPath returns the path below /proc/sys that a key means. The first separator decides which it is: dots part folders and
// slashes are dots of a name, or the other way round, as in net.ipv4.conf.eth0/1.forwarding and net/ipv4/conf/eth0.1/forwarding.
func sysctlPath(key string) (name string, ok bool) {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '.' {
		key = strings.Map(func(r rune) rune {
			switch r {
			case '.':
				return '/'
			case '/':
				return '.'
			}
			return r
		}, key)
	}
	return key, key != "" && filepath.IsLocal(key) && path.Clean(key) == key && !strings.ContainsAny(key, "\x00\n")
}

// apply writes one setting, to each file that a pattern fits.
func (s *System) apply(set setting) error {
	files := []string{path.Join(procSys, set.key)}
	if strings.ContainsAny(set.key, "*?[") {
		found, err := filepath.Glob(s.Root + files[0])
		if err != nil {
			return fmt.Errorf("%s: %s: %w", set.from, set.key, err)
		}
		files = files[:0]
		for _, file := range found {
			files = append(files, strings.TrimPrefix(file, s.Root))
		}
	}
	var errs []error
	for _, file := range files {
		if err := s.write(file, set.value+"\n"); err != nil && !set.lenient {
			errs = append(errs, fmt.Errorf("%s: %w", set.from, err))
		}
	}
	return errors.Join(errs...)
}
