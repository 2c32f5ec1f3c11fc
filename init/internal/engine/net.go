package engine

import (
	"os"

	"golang.org/x/sys/unix"
)

// loopbackUp brings the loopback interface up for whoever works in the image.
// A real root does that for itself.
func (e *engine) loopbackUp() {
	if err := linkUp("lo"); err != nil {
		e.log.Debugf("lo: %v", err)
	}
}

// linkUp brings an interface up, netdevice(7). Any socket will do for that: this
// is of the kind that the engine itself has, for which no module is asked.
func linkUp(name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	link, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, link); err != nil {
		return os.NewSyscallError("SIOCGIFFLAGS", err)
	}
	link.SetUint16(link.Uint16() | unix.IFF_UP)
	return os.NewSyscallError("SIOCSIFFLAGS", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, link))
}
