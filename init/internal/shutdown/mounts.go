package shutdown

import (
	"slices"
	"strings"
)

// A mount is a line of /proc/self/mountinfo.
type mount struct {
	point    string
	fstype   string
	readOnly bool // the mount or the file system
}

// parseMounts reads proc_pid_mountinfo(5). Lines that make no sense are left out.
func parseMounts(b []byte) []mount {
	var list []mount
	for line := range strings.Lines(string(b)) {
		before, after, ok := strings.Cut(line, " - ")
		f, behind := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 6 || len(behind) < 1 {
			continue
		}
		m := mount{point: unescape(f[4]), fstype: behind[0], readOnly: hasOption(f[5], "ro")}
		if len(behind) >= 3 && hasOption(behind[2], "ro") {
			m.readOnly = true
		}
		list = append(list, m)
	}
	return list
}

func hasOption(list, option string) bool { return slices.Contains(strings.Split(list, ","), option) }

// unescape undoes the octal escapes of seq_path.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == '\\' && i+3 < len(s) && octal(s[i+1]) && octal(s[i+2]) && octal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(c byte) bool { return '0' <= c && c <= '7' }

// stays reports whether a mount is left alone: the root, and what the kernel
// shows of itself there, on which nothing is lost and without which the steps
// that follow find nothing.
func (m mount) stays() bool {
	switch m.point {
	case "/", "/proc", "/sys", "/dev", "/run":
		return true
	}
	for _, top := range []string{"/proc/", "/sys/", "/dev/"} {
		if strings.HasPrefix(m.point, top) {
			return true
		}
	}
	return false
}

// mounts returns what is to be unmounted, the latest first.
func (c *closer) mounts() []mount {
	b, err := c.ReadFile("/proc/self/mountinfo")
	if err != nil {
		c.logf("no list of mounts: %v", err)
		return nil
	}
	var list []mount
	for _, m := range slices.Backward(parseMounts(b)) {
		if !m.stays() {
			list = append(list, m)
		}
	}
	return list
}

// takeApart unmounts and detaches in passes until a pass changes nothing, for
// each layer that goes lets the one below it go. The last pass breaks off what
// waits for a server.
func (c *closer) takeApart() {
	force := false
	for range maxPasses {
		switch {
		case c.pass(force):
		case force:
			return
		default:
			force = true
		}
	}
}

// pass reports whether it has changed anything.
func (c *closer) pass(force bool) (progress bool) {
	for _, m := range c.mounts() {
		verb := "unmount "
		if force {
			verb = "force unmount " // it may end what hangs
		}
		if c.limited(verb+m.point, force, func() error { return c.Unmount(m.point, force) }) {
			progress = true
		}
	}
	for _, area := range c.swaps() {
		if c.limited("swapoff "+area, force, func() error { return c.Swapoff(area) }) {
			progress = true
		}
	}
	for _, d := range c.devices() {
		if c.limited("detach "+d, force, func() error { return c.Detach(d) }) {
			progress = true
		}
	}
	return progress
}

// protect makes what is still mounted read-only, so that it is whole on disk.
func (c *closer) protect() {
	b, err := c.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	for _, m := range slices.Backward(parseMounts(b)) {
		if m.readOnly || m.inMemory() || m.point != "/" && m.stays() || c.stuck["force unmount "+m.point] {
			continue
		}
		if c.limited("make read-only "+m.point, true, func() error { return c.ReadOnly(m.point) }) {
			c.logf("%s could not be unmounted; it is read-only now", m.point)
		}
	}
}

// inMemory reports whether the end of the machine is the end of what is in m.
func (m mount) inMemory() bool {
	switch m.fstype {
	case "rootfs", "ramfs", "tmpfs", "overlay":
		return true
	}
	return false
}

// swaps returns the files and devices of /proc/swaps.
func (c *closer) swaps() []string {
	b, err := c.ReadFile("/proc/swaps")
	if err != nil {
		return nil // a kernel without
	}
	var areas []string
	for i, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); i > 0 && len(f) > 0 {
			areas = append(areas, strings.TrimSuffix(unescape(f[0]), " (deleted)"))
		}
	}
	return areas
}

// devices returns the block devices that are made of others, by their names
// below /sys/block. In which order they are taken apart, the passes find out.
func (c *closer) devices() []string {
	names, err := c.ReadDir("/sys/block")
	if err != nil {
		return nil
	}
	inUse := func(name string) bool {
		switch {
		case strings.HasPrefix(name, "loop"):
			b, err := c.ReadFile("/sys/block/" + name + "/loop/backing_file")
			return err == nil && len(b) > 0
		case strings.HasPrefix(name, "dm-"):
			return true
		case strings.HasPrefix(name, "md"):
			b, err := c.ReadFile("/sys/block/" + name + "/md/array_state")
			return err == nil && strings.TrimSpace(string(b)) != "clear"
		}
		return false
	}
	var list []string
	for _, name := range names {
		if inUse(name) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	slices.Reverse(list)
	return list
}
