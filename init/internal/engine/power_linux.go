package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"hapax/init/internal/handoff"
)

// watchPower tells the guard when somebody presses the power button. No program
// of an initramfs would hear it otherwise, for the kernel leaves it to user
// space. ACPI's own netlink messages (drivers/acpi/event.c) need the module
// button alone, where an input device would need evdev, too; what they do not
// cover are the buttons of boards without ACPI.
func (e *engine) watchPower() {
	f, err := listenACPI()
	if err != nil {
		e.log.Debugf("the power button is not watched: %v", err) // a kernel without ACPI
		return
	}
	defer f.Close()
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		if errors.Is(err, unix.ENOBUFS) {
			continue
		}
		if err != nil {
			e.log.Warnf("the power button is not watched any more: %v", err)
			return
		}
		if powerPressed(buf[:n]) {
			e.log.Infof("the power button was pressed")
			e.tell(handoff.Power, "")
		}
	}
}

// listenACPI returns a socket that receives the events of ACPI devices.
func listenACPI() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	group, err := acpiGroup(fd)
	if err == nil {
		err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group))
	}
	if err == nil {
		err = os.NewSyscallError("fcntl", unix.SetNonblock(fd, true))
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "acpi_event"), nil
}

// acpiGroup asks for the multicast group of the family acpi_event. The kernel
// answers before sendto(2) returns.
func acpiGroup(fd int) (int, error) {
	const family = "acpi_event\x00"
	req := make([]byte, 0, 64)
	req = binary.NativeEndian.AppendUint32(req, 0) // the length comes last
	req = binary.NativeEndian.AppendUint16(req, unix.GENL_ID_CTRL)
	req = binary.NativeEndian.AppendUint16(req, unix.NLM_F_REQUEST)
	req = append(req, make([]byte, 8)...)               // seq, pid
	req = append(req, unix.CTRL_CMD_GETFAMILY, 1, 0, 0) // version 1
	req = binary.NativeEndian.AppendUint16(req, uint16(4+len(family)))
	req = binary.NativeEndian.AppendUint16(req, unix.CTRL_ATTR_FAMILY_NAME)
	req = append(req, family...)
	req = append(req, make([]byte, -len(req)&3)...)
	binary.NativeEndian.PutUint32(req, uint32(len(req)))
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
	if err != nil {
		return 0, os.NewSyscallError("recvfrom", err)
	}
	group, ok := mcastGroup(buf[:n])
	if !ok {
		return 0, errors.New("the kernel has no ACPI events")
	}
	return group, nil
}

// genlHeader is the length of struct nlmsghdr and struct genlmsghdr.
const genlHeader = 20

// mcastGroup returns the first multicast group of an answer to
// CTRL_CMD_GETFAMILY.
func mcastGroup(msg []byte) (group int, ok bool) {
	for kind, groups := range attributes(body(msg)) {
		if kind != unix.CTRL_ATTR_MCAST_GROUPS {
			continue
		}
		for _, one := range attributes(groups) {
			for kind, value := range attributes(one) {
				if kind == unix.CTRL_ATTR_MCAST_GRP_ID && len(value) >= 4 {
					return int(binary.NativeEndian.Uint32(value)), true
				}
			}
		}
	}
	return 0, false
}

// powerPressed reports whether a message tells of the power button: struct
// acpi_genl_event, which begins with the class of the device in 20 bytes.
func powerPressed(msg []byte) bool {
	const event, class = 1, 20 // ACPI_GENL_ATTR_EVENT
	for kind, value := range attributes(body(msg)) {
		if kind == event && len(value) >= class {
			name, _, _ := bytes.Cut(value[:class], []byte{0})
			return string(name) == "button/power"
		}
	}
	return false
}

func body(msg []byte) []byte {
	if len(msg) < genlHeader {
		return nil
	}
	return msg[genlHeader:]
}

// attributes yields the netlink attributes in b with their types.
func attributes(b []byte) func(yield func(kind uint16, value []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= 4 {
			size := int(binary.NativeEndian.Uint16(b))
			kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if size < 4 || size > len(b) || !yield(kind, b[4:size]) {
				return
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}
