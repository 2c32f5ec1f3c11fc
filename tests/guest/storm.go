package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hapax/tests/internal/guest"
)

// stormPath returns the path of a file of the storm bench in the image.
func stormPath(name string) string { return "/" + guest.StormDir + "/" + name }

// storm has one contender handle the devices and announces how long it took. For hapax it does not return: that is the
// init of the image, and it says itself how long it took. The oracle waits for its list.
func storm(name string) {
	var took guest.Storm
	err := beginAccount()
	if err == nil && name != guest.Hapax && name != guest.Oracle {
		err = os.Symlink("/bin/kmod", "/"+guest.Modprober)
	}
	if err == nil {
		switch name {
		case guest.Hapax:
			err = unix.Exec("/init", []string{"/init"}, os.Environ())
		case guest.Udevd:
			var c guest.Coldplug
			c, err = udevd()
			took = guest.Storm{Begun: c.Trigger, Settled: c.Settled}
		case guest.Mdev:
			took, err = mdev()
		case guest.Modprobe:
			took, err = modprobeAll()
		case guest.Oracle:
			err = earlyMounts()
		default:
			err = fmt.Errorf("no contender %q", name)
		}
	}
	if err != nil || name != guest.Oracle {
		announce("storm", took, err)
	}
}

// moduleDir is the folder of the running kernel's modules.
func moduleDir() (string, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", err
	}
	return "/lib/modules/" + unix.ByteSliceToString(uts.Release[:]), nil
}

// insert has the oracle insert the named modules. Their files are looked up before the clock starts.
func insert(names []string) (guest.Storm, error) {
	dir, err := moduleDir()
	if err != nil {
		return guest.Storm{}, err
	}
	files, err := moduleFiles(dir)
	if err != nil {
		return guest.Storm{}, err
	}
	paths := make([]string, len(names))
	for i, name := range names {
		if files[name] == "" {
			return guest.Storm{}, fmt.Errorf("%s holds no module %s", dir, name)
		}
		paths[i] = filepath.Join(dir, files[name])
	}
	took := guest.Storm{Begun: monotonic()}
	err = command(stormPath("oracle"), paths...)
	took.Settled = monotonic()
	return took, err
}

// moduleFiles returns the file of each module below dir, relative to it, by the names that the kernel gives them.
func moduleFiles(dir string) (map[string]string, error) {
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, _, ok := strings.Cut(d.Name(), ".ko"); ok && !d.IsDir() {
			files[strings.ReplaceAll(name, "-", "_")], err = filepath.Rel(dir, path)
		}
		return err
	})
	return files, err
}

// modprobeAll hands all modaliases of the machine to one modprobe after the other, each once, until no new one has
// appeared. That a module refuses or that an alias has none is no reason to stop.
func modprobeAll() (guest.Storm, error) {
	if err := earlyMounts(); err != nil {
		return guest.Storm{}, err
	}
	took := guest.Storm{Begun: monotonic()}
	tried := make(map[string]bool)
	for {
		fresh, err := freshAliases("/sys", tried)
		if err != nil || len(fresh) == 0 {
			took.Settled = monotonic()
			return took, err
		}
		if err := command("/"+guest.Modprober, append([]string{"-a", "-b", "-q"}, fresh...)...); err != nil {
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
				return took, err
			}
		}
	}
}

// freshAliases returns the modaliases below sysfs that are not in tried, sorted, and enters them there.
func freshAliases(sysfs string, tried map[string]bool) ([]string, error) {
	all, err := devices(sysfs)
	if err != nil {
		return nil, err
	}
	var fresh []string
	for _, d := range all {
		if d.Modalias != "" && !tried[d.Modalias] {
			tried[d.Modalias] = true
			fresh = append(fresh, d.Modalias)
		}
	}
	slices.Sort(fresh)
	return fresh, nil
}

// pokeProcessors writes "add" to the uevent files of the processors in turn, as often as the argument says.
func pokeProcessors(argument string) error {
	times, err := strconv.Atoi(argument)
	if err != nil {
		return err
	}
	files, err := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/uevent")
	if err != nil || len(files) == 0 {
		return errors.Join(err, errors.New("no processor in sysfs"))
	}
	for i := range times {
		if err := os.WriteFile(files[i%len(files)], []byte("add"), 0); err != nil {
			return err
		}
	}
	return nil
}

// moduleStats returns the kernel's own account, "" if it keeps none.
func moduleStats() (string, error) {
	const dir = "/sys/kernel/debug"
	if err := unix.Mount("debugfs", dir, "debugfs", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		return "", fmt.Errorf("mount %s: %w", dir, err)
	}
	text, err := cat(dir + "/modules/stats")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return text, err
}

// before is what is noted down before a contender starts.
type before struct {
	Forks int
	Free  int64
}

// ownProc is a proc file system that no contender mounts over.
func ownProc(name string) string { return stormPath("proc/" + name) }

// beginAccount notes down the state of the machine and starts the watcher of its memory.
func beginAccount() error {
	if err := os.MkdirAll(ownProc(""), 0o755); err != nil {
		return err
	}
	if err := unix.Mount("proc", ownProc(""), "proc", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", ownProc(""), err)
	}
	cmd := exec.Command("/"+guest.StormInit, guest.Watcher)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	use, err := account()
	if err != nil {
		return err
	}
	text, err := json.Marshal(before{use.Processes, use.Free})
	if err != nil {
		return err
	}
	return os.WriteFile(stormPath("before"), text, 0o644)
}

// account returns what /proc says now.
func account() (use guest.Use, err error) {
	stat, err := os.ReadFile(ownProc("stat"))
	if err != nil {
		return use, err
	}
	meminfo, err := os.ReadFile(ownProc("meminfo"))
	if err != nil {
		return use, err
	}
	if use.Processes, err = guest.ParseForks(stat); err != nil {
		return use, err
	}
	use.Total, use.Free, use.Available, err = guest.ParseMeminfo(meminfo)
	return use, err
}

// usage returns what the contender has used since beginAccount.
func usage() (guest.Use, error) {
	use, err := account()
	if err != nil {
		return use, err
	}
	text, err := os.ReadFile(stormPath("before"))
	if err != nil {
		return use, err
	}
	var b before
	if err := json.Unmarshal(text, &b); err != nil {
		return use, err
	}
	use.Processes, use.Before = use.Processes-b.Forks, b.Free
	low, err := os.ReadFile(stormPath("low"))
	if err != nil {
		return use, err
	}
	use.Low, err = strconv.ParseInt(strings.TrimSpace(string(low)), 10, 64)
	return use, err
}
