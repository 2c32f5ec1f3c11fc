package uevent

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// DefaultReceiveBuffer is the size of the socket's buffer in bytes, which the kernel doubles. It holds
// more than 20,000 events that nobody has read yet; the memory is only used while they wait.
const DefaultReceiveBuffer = 16 << 20

// kernelGroup is the multicast group of the kernel. Group 2 is where udevd speaks to libudev.
const kernelGroup = 1

// An Option changes what Listen does.
type Option func(*options)

type options struct{ receiveBuffer int }

// ReceiveBuffer sets the size of the socket's buffer in bytes, as SO_RCVBUF takes it.
func ReceiveBuffer(bytes int) Option {
	return func(o *options) { o.receiveBuffer = bytes }
}

// Listen subscribes to the kernel's uevents in the network namespace of the calling thread. The
// socket is bound when Listen returns: every later event is received or reported as ErrOverrun, so
// a walk of sysfs that begins then closes the gap to the time before.
//
// A receive buffer above net.core.rmem_max needs CAP_NET_ADMIN; without it the buffer is as large as
// the limit lets it be.
func Listen(opts ...Option) (*Conn, error) {
	o := options{receiveBuffer: DefaultReceiveBuffer}
	for _, opt := range opts {
		opt(&o)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("uevent: open a NETLINK_KOBJECT_UEVENT socket: %w", err)
	}
	rcvbuf, err := prepare(fd, o)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	sock, err := newNetlinkSocket(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return newConn(sock, rcvbuf), nil
}

// prepare sets the options of the socket and binds it. It returns the size of the receive buffer.
func prepare(fd int, o options) (rcvbuf int, err error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, o.receiveBuffer); err != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, o.receiveBuffer); err != nil {
			return 0, fmt.Errorf("uevent: set a receive buffer of %d bytes: %w", o.receiveBuffer, err)
		}
	}
	if rcvbuf, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err != nil {
		return 0, fmt.Errorf("uevent: read the size of the receive buffer: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return 0, fmt.Errorf("uevent: ask for the credentials of senders: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		return 0, fmt.Errorf("uevent: join the kernel's multicast group: %w", err)
	}
	return rcvbuf, nil
}

// A netlinkSocket is a socket on the poller of the Go runtime, which costs no thread while it waits.
//
// The poller is edge-triggered, so the error state that stays readable until recv fetches it cannot
// spin. It refuses a file whose only event is EPOLLERR; a netlink socket that never sends is always
// writable as well, so that does not happen here.
type netlinkSocket struct {
	file *os.File
	raw  syscall.RawConn

	// The arguments of recvmsg, of which recv fills in the lengths anew for each call. They are kept
	// here because unix.Recvmsg would allocate them, and the sender's address, for every message.
	msg     unix.Msghdr
	iov     unix.Iovec
	from    unix.RawSockaddrNetlink
	control credentials
}

// credentials is the control message that SO_PASSCRED adds: a Cmsghdr needs no padding before a Ucred.
type credentials struct {
	unix.Cmsghdr
	unix.Ucred
}

// newNetlinkSocket takes over fd unless it returns an error.
func newNetlinkSocket(fd int) (*netlinkSocket, error) {
	s := &netlinkSocket{file: os.NewFile(uintptr(fd), "uevent")}
	raw, err := s.file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("uevent: wait on the socket through the runtime: %w", err)
	}
	s.raw = raw
	s.msg.Name = (*byte)(unsafe.Pointer(&s.from))
	s.msg.Iov = &s.iov
	s.msg.SetIovlen(1)
	s.msg.Control = (*byte)(unsafe.Pointer(&s.control))
	return s, nil
}

func (s *netlinkSocket) wait(try func(fd uintptr) bool) error { return s.raw.Read(try) }

func (s *netlinkSocket) close() error { return s.file.Close() }

func (s *netlinkSocket) recv(fd uintptr, p []byte) (datagram, syscall.Errno) {
	s.iov.Base = unsafe.SliceData(p)
	s.iov.SetLen(len(p))
	s.msg.Namelen = unix.SizeofSockaddrNetlink
	s.msg.SetControllen(int(unsafe.Sizeof(s.control)))
	s.msg.Flags = 0
	s.control = credentials{}
	n, _, errno := unix.Syscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&s.msg)), unix.MSG_DONTWAIT)
	if errno != 0 {
		return datagram{}, errno
	}
	return datagram{
		n:          int(n),
		truncated:  s.msg.Flags&unix.MSG_TRUNC != 0,
		fromKernel: s.fromKernel(),
	}, 0
}

// fromKernel judges the sender of the last message. Any process with CAP_NET_ADMIN over the network
// namespace can multicast to the group, and then has a port of its own. One with CAP_SYS_ADMIN can have
// the kernel pass a message on, which comes from port 0, but with the credentials of that process.
func (s *netlinkSocket) fromKernel() bool {
	return s.msg.Namelen == unix.SizeofSockaddrNetlink &&
		s.from.Pid == 0 && s.from.Groups == kernelGroup &&
		s.msg.Flags&unix.MSG_CTRUNC == 0 &&
		s.control.Level == unix.SOL_SOCKET && s.control.Type == unix.SCM_CREDENTIALS &&
		int(s.control.Len) == unix.CmsgLen(unix.SizeofUcred) &&
		s.control.Ucred.Pid == 0 && s.control.Uid == 0
}
