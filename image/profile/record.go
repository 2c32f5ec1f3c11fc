package profile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Record describes the machine whose /sys and /proc are below root: "/" for this one.
//
// Devices may come and go meanwhile: what cannot be read is left out. Only a root without /sys/devices is an error.
func Record(root string) (Profile, error) {
	m := machine{root: root, seen: map[string]bool{}}
	p := Profile{Version: version, Arch: m.arch(), Release: m.text("proc/sys/kernel/osrelease")}
	if _, err := os.Stat(m.path("sys/devices")); err != nil {
		return Profile{}, fmt.Errorf("%w: is /sys mounted there?", err)
	}
	// A walk over sysfs never fails as a whole: a device that is gone takes its folder along.
	_ = filepath.WalkDir(m.path("sys/devices"), func(file string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "modalias" && d.Type().IsRegular() {
			if alias := readLine(file); alias != "" {
				p.Modaliases = append(p.Modaliases, alias)
			}
		}
		return nil
	})
	m.mounts()
	m.keyboards()
	m.consoles()
	p.Needs, p.CPUs = m.needs, m.cpus()
	return p.sorted(), nil
}

// A machine is the state of one Record.
type machine struct {
	root  string
	needs []Need
	seen  map[string]bool // devices whose drivers are noted, for one purpose each
}

// arch returns the architecture that the kernel tells (/proc/sys/kernel/arch, Linux 6.1), or else that of this program.
func (m *machine) arch() string {
	switch name := m.text("proc/sys/kernel/arch"); name {
	case "":
		return runtime.GOARCH
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	default:
		return name
	}
}

// path returns where a file of the machine is found.
func (m *machine) path(name string) string { return filepath.Join(m.root, filepath.FromSlash(name)) }

// text returns the first line of a file, "" if it cannot be read.
func (m *machine) text(name string) string { return readLine(m.path(name)) }

func readLine(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return strings.TrimSpace(string(line))
}

// need notes a module.
func (m *machine) need(module, purpose string) {
	if module != "" {
		m.needs = append(m.needs, Need{Module: module, For: purpose})
	}
}

// real returns the folder in /sys that a link leads to. Below a root that is not "/" absolute links would lead out of it;
// sysfs has none.
func (m *machine) real(name string) (string, bool) {
	dir, err := filepath.EvalSymlinks(m.path(name))
	return dir, err == nil
}

// chain notes the drivers of a device and of everything above it, and those of the devices that supply these: clocks,
// pins, power, without which a driver waits for ever.
func (m *machine) chain(dir, purpose string) {
	top, err := filepath.EvalSymlinks(m.path("sys/devices"))
	if err != nil {
		return
	}
	for ; strings.HasPrefix(dir, top+"/"); dir = filepath.Dir(dir) {
		if m.seen[purpose+"\x00"+dir] {
			return
		}
		m.seen[purpose+"\x00"+dir] = true
		if module, err := os.Readlink(filepath.Join(dir, "driver/module")); err == nil {
			m.need(filepath.Base(module), purpose)
		}
		suppliers, _ := filepath.Glob(filepath.Join(dir, "supplier:*/supplier")) // the pattern is valid
		for _, link := range suppliers {
			if supplier, err := filepath.EvalSymlinks(link); err == nil {
				m.chain(supplier, purpose)
			}
		}
	}
}

// keyboards notes what drives the keyboards that are there, and every USB host controller: one may be plugged in when a
// passphrase or the rescue shell needs it.
func (m *machine) keyboards() {
	const purpose = "the keyboard"
	for _, name := range []string{"atkbd", "i8042", "usbhid", "hid_generic"} {
		m.need(name, purpose)
	}
	inputs, _ := filepath.Glob(m.path("sys/class/input/input*"))
	for _, link := range inputs {
		dir, err := filepath.EvalSymlinks(link)
		if err == nil && isKeyboard(readLine(filepath.Join(dir, "capabilities/key"))) {
			m.chain(dir, purpose)
		}
	}
	hubs, _ := filepath.Glob(m.path("sys/bus/usb/devices/usb*"))
	for _, link := range hubs {
		if dir, err := filepath.EvalSymlinks(link); err == nil {
			m.chain(dir, purpose)
		}
	}
}

// isKeyboard reports whether a bitmap of capabilities/key has the keys of a keyboard: escape, the digits, Q to D, numbers
// 1 to 31, which is also how systemd tells it from a mouse or a power button. The last word holds the lowest numbers.
func isKeyboard(bitmap string) bool {
	words := strings.Fields(bitmap)
	if len(words) == 0 {
		return false
	}
	lowest, err := strconv.ParseUint(words[len(words)-1], 16, 64)
	const keys = 0xfffffffe
	return err == nil && lowest&keys == keys
}

// consoles notes what drives the active consoles. A screen that the firmware has set up needs nothing: the kernel itself
// writes on it.
func (m *machine) consoles() {
	const purpose = "the console"
	for _, name := range strings.Fields(m.text("sys/class/tty/console/active")) {
		if name == "tty0" {
			m.screen(purpose)
			continue
		}
		if dir, ok := m.real("sys/class/tty/" + name); ok {
			m.chain(dir, purpose)
			if device, err := filepath.EvalSymlinks(filepath.Join(dir, "device")); err == nil {
				m.chain(device, purpose)
			}
		}
		if strings.HasPrefix(name, "hvc") {
			m.need("virtio_console", purpose)
		}
	}
}

// screen notes the drivers of the frame buffers if there is no other way to write on the screen: EFI's, or VGA's text mode.
func (m *machine) screen(purpose string) {
	for _, name := range []string{"sys/firmware/efi", "sys/devices/platform/simple-framebuffer.0", "sys/devices/platform/vesa-framebuffer.0"} {
		if _, err := os.Stat(m.path(name)); err == nil {
			return
		}
	}
	if strings.Contains(m.text("sys/class/vtconsole/vtcon0/name"), "VGA") {
		return
	}
	buffers, _ := filepath.Glob(m.path("sys/class/graphics/fb*/device"))
	for _, link := range buffers {
		if dir, err := filepath.EvalSymlinks(link); err == nil {
			m.chain(dir, purpose)
		}
	}
}

// cpus reads /proc/cpuinfo, which has these fields on x86 alone; other machines have no microcode to load.
func (m *machine) cpus() []CPU {
	f, err := os.Open(m.path("proc/cpuinfo"))
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []CPU
	var cpu CPU
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimSpace(value)
		number, err := strconv.Atoi(value)
		if err != nil {
			number = -1
		}
		switch strings.TrimSpace(key) {
		case "vendor_id":
			cpu = CPU{Vendor: value}
		case "cpu family":
			cpu.Family = number
		case "model":
			cpu.Model = number
		case "stepping":
			cpu.Stepping = number
			if cpu.Vendor != "" {
				all = append(all, cpu)
			}
			cpu = CPU{}
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) { // some flags line of a later kernel: what was read before counts
		return all
	}
	return all
}
