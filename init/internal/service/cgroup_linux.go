package service

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A cgroup is the path of a group of cgroup v2 that holds the processes of one service; "" is none.
type cgroup string

// groupDir is the folder of all groups that are made here.
const groupDir = "hapax"

// newCgroup makes the group of a service, none of whose processes is left, below the mount at root, with its limits. There is
// none without such a mount. The error tells which limits do not hold.
func newCgroup(root, name string, limits Limits) (cgroup, error) {
	var st unix.Statfs_t
	if unix.Statfs(root, &st) != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		if limits != (Limits{}) {
			return "", fmt.Errorf("no limits: %s is no cgroup2 file system", root)
		}
		return "", nil
	}
	parent := filepath.Join(root, groupDir)
	g := cgroup(filepath.Join(parent, name))
	// Linux 6.18.44 kills at once whatever is started in a group that has been killed before: it takes the count of kills of
	// this process's own group for that of the new one. A new group has none.
	if err := g.remove(); err != nil {
		return "", err
	}
	if err := os.MkdirAll(string(g), 0o755); err != nil {
		return "", err
	}
	values := [...]int64{limits.MemoryMax, limits.PidsMax, limits.CPUWeight, limits.CPUMax}
	var errs []error
	for i, file := range [...]string{"memory.max", "pids.max", "cpu.weight", "cpu.max"} {
		if values[i] == 0 {
			continue
		}
		controller, _, _ := strings.Cut(file, ".")
		for _, dir := range [...]string{root, parent} {
			_ = write(dir, "cgroup.subtree_control", "+"+controller) // the write to the limit itself tells
		}
		text := strconv.FormatInt(values[i], 10)
		if file == "cpu.max" {
			text += " 100000"
		}
		errs = append(errs, write(string(g), file, text))
	}
	if limits.MemoryMax != 0 {
		errs = append(errs, write(string(g), "memory.oom.group", "1")) // a service of which one process is missing is none
	}
	return g, errors.Join(errs...)
}

// remove removes a group without processes, and those that the service has made in it.
func (g cgroup) remove() error {
	switch err := unix.Rmdir(string(g)); err {
	case nil, unix.ENOENT, unix.ENOTDIR: // a control file is no group
		return nil
	}
	dir, err := os.Open(string(g))
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	for _, name := range names {
		if err == nil {
			err = cgroup(filepath.Join(string(g), name)).remove()
		}
	}
	if err != nil {
		return err
	}
	return os.NewSyscallError("rmdir "+string(g), unix.Rmdir(string(g)))
}

func write(dir, file, value string) error {
	fd, err := unix.Open(filepath.Join(dir, file), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		_, err = unix.Write(fd, []byte(value))
	}
	if err != nil {
		return fmt.Errorf("%s=%s: %w", file, value, err)
	}
	return nil
}

// kill kills every process of the group, at once if the kernel can (5.14), else those of the moment.
func (g cgroup) kill() error {
	err := write(string(g), "cgroup.kill", "1")
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	list, err := os.ReadFile(filepath.Join(string(g), "cgroup.procs"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(list)) {
		if pid, err := strconv.Atoi(strings.TrimSuffix(line, "\n")); err == nil && pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	return nil
}

// populated reports whether a process of the group is left.
func (g cgroup) populated() bool {
	b, err := os.ReadFile(filepath.Join(string(g), "cgroup.events"))
	return err == nil && strings.Contains(string(b), "populated 1")
}
