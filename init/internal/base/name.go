package base

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"hapax/init/internal/klog"
)

// fallbackName is the name of a host that has none, as systemd and resolvers expect it. hapax-net puts that of a DHCP server
// in its place.
const fallbackName = "localhost"

// maxName is the kernel's limit of a host name, __NEW_UTS_LEN.
const maxName = 64

// hostname sets the name that hapax.hostname= or systemd.hostname= gives, else that of /etc/hostname. One that the kernel was
// built or started with stays if neither says another.
func (s *System) hostname() error {
	name, from := "", ""
	for _, key := range []string{"hapax.hostname", "systemd.hostname"} {
		if value, ok := s.Params.Lookup(key); ok && name == "" {
			name, from = value, key+"="
		}
	}
	if name == "" {
		text, err := s.read("/etc/hostname")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		name, from = firstLine(text), "/etc/hostname"
	}
	var bad error
	if name != "" && !validName(name) {
		bad = fmt.Errorf("%s: %q is no host name: letters, digits, '-' and '.' make one of at most %d", from, klog.Printable(name), maxName)
		name = ""
	}
	if name == "" {
		if now, err := s.Hostname(); err == nil && now != "" && now != "(none)" {
			return bad
		}
		name = fallbackName
	}
	return errors.Join(bad, s.SetName(name))
}

// validName reports whether name is one by hostname(7), so that it is safe in a prompt, a log and a file name. An underscore is
// let through, which many names in use have.
func validName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// Where a machine id is: the file that programs read, and the one in memory that is laid over it.
const (
	machineIDFile    = "/etc/machine-id"
	runningMachineID = "/run/machine-id"
)

// machineID has /etc/machine-id say which machine this is, by machine-id(5): an id that is there stays; else it is that of
// systemd.machine_id=, for a virtual machine the one that the hypervisor gave it, so that it is the same on the next boot, and
// last a random one. As for systemd, "firmware" as value takes the firmware's id of any machine: some makers give
// all boards the same, which is why it has to be asked for.
func (s *System) machineID() error {
	text, err := s.read(machineIDFile)
	if err == nil {
		if _, ok := parseID(firstLine(text)); ok {
			return nil
		}
	}
	id, bad := s.chooseID()
	if err := s.replace(runningMachineID, []byte(id+"\n"), 0o444); err != nil {
		return errors.Join(bad, err)
	}
	f, err := os.OpenFile(s.Root+machineIDFile, os.O_WRONLY|os.O_CREATE, 0o444) // what the other is mounted on
	if err == nil {
		err = f.Close()
	}
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: the image has no /etc", err)
	}
	if err != nil {
		return errors.Join(bad, err)
	}
	return errors.Join(bad, s.Bind(s.Root+runningMachineID, s.Root+machineIDFile))
}

// chooseID returns a new id, and what was wrong with the one that was asked for.
func (s *System) chooseID() (id string, bad error) {
	wanted, given := s.Params.Lookup("systemd.machine_id")
	if id, ok := parseID(wanted); ok {
		return id, nil
	}
	if given && wanted != "firmware" {
		bad = fmt.Errorf("systemd.machine_id=%q: want 32 hexadecimal digits, or firmware", klog.Printable(wanted))
	}
	if wanted == "firmware" || s.virtual() {
		for _, file := range []string{"/sys/class/dmi/id/product_uuid", "/proc/device-tree/vm,uuid", "/sys/hypervisor/uuid"} {
			text, err := s.read(file)
			if err != nil {
				continue
			}
			if id, ok := parseID(strings.Trim(text, "\x00\n ")); ok {
				return id, bad
			}
		}
	}
	var b [16]byte
	if err := s.Random(b[:]); err != nil {
		return strings.Repeat("0", 31) + "1", errors.Join(bad, err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // a UUID of version 4, as the manual page recommends
	return hex.EncodeToString(b[:]), bad
}

// virtual reports whether a hypervisor says that it is one: by the bit of CPUID that is there for it, or in the device tree.
func (s *System) virtual() bool {
	for _, dir := range []string{"/proc/device-tree/hypervisor", "/sys/hypervisor/uuid"} {
		if _, err := os.Stat(s.Root + dir); err == nil {
			return true
		}
	}
	text, _ := s.read("/proc/cpuinfo") // of a machine with many processors the first ones will do
	for line := range strings.Lines(text) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "flags" {
			return strings.Contains(value+" ", " hypervisor ") || strings.HasSuffix(strings.TrimSpace(value), " hypervisor")
		}
	}
	return false
}

// parseID returns a machine id in its one spelling, from that or from a UUID. All zeros and all ones stand for none.
func parseID(text string) (id string, ok bool) {
	id = strings.ToLower(strings.ReplaceAll(text, "-", ""))
	if b, err := hex.DecodeString(id); err != nil || len(b) != 16 {
		return "", false
	}
	return id, strings.Trim(id, "0") != "" && strings.Trim(id, "f") != ""
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(line)
}
