package main

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// newLink makes a network interface as ip link add NAME type KIND does: one RTM_NEWLINK message of rtnetlink(7).
func newLink(kind, name string) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	native := binary.NativeEndian
	body := make([]byte, unix.SizeofIfInfomsg)
	body = append(body, attribute(unix.IFLA_IFNAME, append([]byte(name), 0))...)
	body = append(body, attribute(unix.IFLA_LINKINFO, attribute(unix.IFLA_INFO_KIND, append([]byte(kind), 0)))...)
	message := make([]byte, unix.SizeofNlMsghdr)
	native.PutUint32(message[0:], uint32(unix.SizeofNlMsghdr+len(body)))
	native.PutUint16(message[4:], unix.RTM_NEWLINK)
	native.PutUint16(message[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	if err := unix.Sendto(fd, append(message, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, err := unix.Read(fd, answer)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || native.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("rtnetlink: an answer that acknowledges nothing")
	}
	if code := int32(native.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// attribute packs one attribute, padded to a multiple of four bytes.
func attribute(kind uint16, value []byte) []byte {
	b := make([]byte, 4, 4+len(value)+3)
	binary.NativeEndian.PutUint16(b[0:], uint16(4+len(value)))
	binary.NativeEndian.PutUint16(b[2:], kind)
	b = append(b, value...)
	return append(b, make([]byte, -len(value)&3)...)
}

// matchRevision asks for revision 0 of a match, as iptables(8) does before it uses one.
func matchRevision(name string) error {
	const getRevisionMatch = 66 // IPT_SO_GET_REVISION_MATCH
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var revision [30]byte // struct xt_get_revision: char name[29], __u8 revision
	copy(revision[:28], name)
	size := uint32(len(revision))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_IP, getRevisionMatch,
		uintptr(unsafe.Pointer(&revision)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
