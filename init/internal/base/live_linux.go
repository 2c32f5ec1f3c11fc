package base

import (
	"errors"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/mnt"
)

// Live returns the running system.
func Live(params *cmdline.Params) *System {
	return &System{
		Params:   params,
		Mounts:   mnt.Kernel(),
		Bind:     bind,
		Hostname: os.Hostname,
		SetName:  func(name string) error { return os.NewSyscallError("sethostname", unix.Sethostname([]byte(name))) },
		Loopback: loopback,
		Random:   random,
		Credit:   credit,
		Now:      time.Now,
		SetTime:  setTime,
		RTC:      readRTC,
	}
}

// bind lays a file over another, read-only, which takes two calls.
func bind(source, target string) error {
	err := unix.Mount(source, target, "", unix.MS_BIND, "")
	if err == nil {
		err = unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}
	if err != nil {
		return &os.PathError{Op: "bind mount", Path: target, Err: err}
	}
	return nil
}

// loopback sets lo up. The kernel gives it its addresses by itself then.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request); err != nil {
		return os.NewSyscallError("SIOCGIFFLAGS", err)
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	return os.NewSyscallError("SIOCSIFFLAGS", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request))
}

// random reads from the kernel's generator. Where that has to wait the kernel makes entropy of the jitter of its clock.
func random(p []byte) error {
	for len(p) > 0 {
		n, err := unix.Getrandom(p, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("getrandom", err)
		}
		p = p[n:]
	}
	return nil
}

// credit hands the kernel a seed of seedSize bytes by RNDADDENTROPY, which takes struct rand_pool_info: the entropy in bits, the
// length in bytes, the bytes.
func credit(seed []byte) error {
	info := struct {
		bits, size int32
		buf        [seedSize]byte
	}{bits: 8 * seedSize, size: seedSize}
	copy(info.buf[:], seed)
	defer clear(info.buf[:])
	fd, err := unix.Open("/dev/urandom", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/dev/urandom", Err: err}
	}
	defer unix.Close(fd)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info))); errno != 0 {
		return os.NewSyscallError("RNDADDENTROPY", errno)
	}
	return nil
}

func setTime(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	return os.NewSyscallError("clock_settime", unix.ClockSettime(unix.CLOCK_REALTIME, &ts))
}

// readRTC returns the time of the hardware clock. An error for which errors.Is holds os.ErrNotExist says that there is none.
func readRTC() (time.Time, error) {
	const path = "/dev/rtc0"
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return time.Time{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	t, err := unix.IoctlGetRTCTime(fd)
	if err != nil {
		return time.Time{}, os.NewSyscallError("RTC_RD_TIME", err)
	}
	// A struct tm: months from 0, years from 1900.
	return time.Date(int(t.Year)+1900, time.Month(t.Mon+1), int(t.Mday), int(t.Hour), int(t.Min), int(t.Sec), 0, time.UTC), nil
}
